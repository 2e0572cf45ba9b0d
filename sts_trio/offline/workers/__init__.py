"""The processes that recognise and render speech."""

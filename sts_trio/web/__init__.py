"""The page: a softphone that speaks Twilio's protocol, and a view of the calls on this server."""

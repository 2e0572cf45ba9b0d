"""`sts-trio load`: a load test of any bridge between Twilio's Media Streams and a voice agent."""

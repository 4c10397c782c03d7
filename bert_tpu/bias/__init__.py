"""Four published measures of social bias."""

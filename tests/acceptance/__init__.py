"""The installed commands: started, stopped, refused, killed."""

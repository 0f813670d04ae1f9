"""How the bot is run: the supervisor of the local stack and the servers it embeds. No product code."""

"""How good rows are: what an answer of an exchange is worth, and how good the stored rows of a day are. Pure."""

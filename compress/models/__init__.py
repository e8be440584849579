"""Networks, one file a family; a file is found by being here."""

"""Search over candidates; knows no network and imports nothing of ours."""

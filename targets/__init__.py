"""What a device allows and costs; imports no machine-learning framework and nothing else of ours."""

"""What a training run optimises: the matcher's and the captioner's objective, and the preparation both share."""

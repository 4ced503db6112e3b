"""The guided demo: train, evaluate, index, search and caption on generated data, with one HTML page as the result."""

"""Pretrained networks: ``image`` backbones, ``text`` encoders and ``language`` models, one file per family."""

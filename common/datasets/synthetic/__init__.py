"""Synthetic pedestrians: rendered images, written in the layout of a real data set and read by its reader."""

from common.datasets.synthetic.write import make_dataset

__all__ = ["make_dataset"]

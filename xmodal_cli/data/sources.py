"""URLs of the public datasets, and what must be downloaded manually.

Sizes and sha256 are those that are published (for COCO and the caption archive: by TensorFlow Datasets). A file without
them is checked by the server's Content-Length and by opening the archive.
"""

from __future__ import annotations

from dataclasses import dataclass

CAPTION_ARCHIVE = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
CAPTION_SIZE, CAPTION_SHA256 = 36_745_453, "4cfd70132527b80933105e5829dc9034eaab9573482e2e680abbab6130244817"
FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
COCO = "http://images.cocodataset.org"


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch. ``only`` has the names of the files to extract from an archive; empty: all."""

    url: str
    size: int | None = None  # bytes
    sha256: str | None = None
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file name, the last part of the URL."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Source:
    """A dataset: the files to fetch, what must be downloaded manually, and the terms of use."""

    title: str
    files: tuple[RemoteFile, ...]
    terms: str
    manual_download: str = ""  # instructions for files that are available on request only; "" if there are none


def _captions(name: str) -> RemoteFile:
    """One dataset's file in Karpathy's archive."""
    return RemoteFile(CAPTION_ARCHIVE, CAPTION_SIZE, CAPTION_SHA256, only=(name,))


SOURCES: dict[str, Source] = {
    "f8k": Source(
        title="Flickr8k: 8,000 photos, five captions each",
        files=(
            RemoteFile(f"{FLICKR8K}/Flickr8k_Dataset.zip"),
            RemoteFile(f"{FLICKR8K}/Flickr8k_text.zip"),
            _captions("dataset_flickr8k.json"),
        ),
        terms="research and education only",
    ),
    "f30k": Source(
        title="Flickr30k: 31,014 photos, five captions each",
        files=(_captions("dataset_flickr30k.json"),),
        terms="research and education only; the photos belong to their authors on Flickr",
        manual_download=(
            "request the photos with the form on the Flickr30k page of the University of Illinois "
            "(https://shannon.cs.illinois.edu/DenotationGraph/), and extract flickr30k-images.tar.gz here, so that "
            "this folder contains flickr30k-images/1000092795.jpg"
        ),
    ),
    "coco": Source(
        title="MS COCO 2014: 123,287 photos, five captions each",
        files=(
            _captions("dataset_coco.json"),
            RemoteFile(
                f"{COCO}/annotations/annotations_trainval2014.zip",
                252_872_794,
                "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
            ),
            RemoteFile(
                f"{COCO}/zips/val2014.zip",
                6_645_013_297,
                "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
            ),
            RemoteFile(
                f"{COCO}/zips/train2014.zip",
                13_510_573_713,
                "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
            ),
        ),
        terms="annotations CC BY 4.0; the photos keep their Flickr licenses",
    ),
}

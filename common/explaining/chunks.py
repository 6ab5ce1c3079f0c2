"""Explain many pictures: those that have no maps yet, chunk by chunk, each kept when it is done.

Networks round by how many pictures they see together. So the chunks are those of a run that makes
all maps, whatever is there already: of a chunk that lacks some, all pictures are shown once more.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from common.evidence.explanation import How, find_sources
from common.explaining.kept_maps import KeptMaps
from common.grading.loading import LoadedGrader
from common.new_pictures.listing import Listing, NewPicture
from common.new_pictures.run import ReadPicture, read_ahead
from common.prediction.altered import AlteredPixels
from common.system.log import log, printable, progress_bar


def explain_all(
    listing: Listing, loaded: LoadedGrader, how: How, num_workers: int, kept: KeptMaps
) -> list[str]:
    """Make the maps of all pictures that have none; returns why others could not be explained."""
    networks, grader = loaded.networks, loaded.grader
    preprocessings, size, refused = networks.preprocessings, networks.chunk, list[str]()
    bar = progress_bar(None, "explain", len(listing))

    def read(pictures: Iterable[NewPicture], ahead: int) -> Iterator[ReadPicture]:
        return read_ahead(pictures, preprocessings, num_workers, ahead)

    def readable(done: frozenset[str]) -> Iterator[ReadPicture | NewPicture]:
        """Read the pictures that have no maps; return the others unread."""
        found = read((each for each in listing.pictures if each.name not in done), size)
        for picture in listing.pictures:
            each = None if picture.name in done else next(found)
            if each is None or not each.error:
                yield each or picture
                continue
            refused.append(f"{printable(picture.name)}: {each.error}")
            log(f"note: left out, {refused[-1]}")
            bar.update(1)

    for chunk in _chunks(readable(frozenset(kept.done)), size):
        unread = [each for each in chunk if isinstance(each, NewPicture)]
        if len(unread) < len(chunk):
            again = iter(list(read(unread, size)))
            whole = [next(again) if isinstance(each, NewPicture) else each for each in chunk]
            shown = [each for each in whole if not each.error]  # one may just have been removed
            pixels = [
                AlteredPixels(np.stack([each.squares[model] for each in shown]), own)
                for model, own in enumerate(preprocessings)
            ]
            sources = find_sources(pixels, networks.models, how)
            for row, each in enumerate(shown):
                if each.picture.name not in kept.done:
                    kept.add(each, sources.take(row), grader)
        bar.update(len(chunk))
    bar.close()
    return refused


def _chunks(
    found: Iterator[ReadPicture | NewPicture], size: int
) -> Iterator[Sequence[ReadPicture | NewPicture]]:
    chunk: list[ReadPicture | NewPicture] = []
    for each in found:
        chunk.append(each)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk

"""Find the retina's disc in a photograph.

H, W pixels of the photograph.
"""

import cv2
import numpy as np


def retina_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Find the box (top, bottom, left, right) of the retina's disc, brighter than what is around.

    image (H, W, 3) uint8. The disc is the largest bright component; where that covers less than a
    tenth of the picture nothing is cut off.
    """
    height, width = image.shape[:2]
    scale = max(1.0, max(height, width) / 256)
    small_size = (max(1, round(width / scale)), max(1, round(height / scale)))
    small = cv2.resize(image, small_size, interpolation=cv2.INTER_AREA).max(axis=2)
    threshold = np.clip(0.15 * np.percentile(small, 99), 12, 30)
    mask = cv2.morphologyEx((small > threshold).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3)))
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return 0, height, 0, width
    left, top, box_width, box_height, area = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())]
    if area < 0.1 * mask.size:
        return 0, height, 0, width
    return (
        int(top * scale),
        min(height, int(np.ceil((top + box_height) * scale))),
        int(left * scale),
        min(width, int(np.ceil((left + box_width) * scale))),
    )

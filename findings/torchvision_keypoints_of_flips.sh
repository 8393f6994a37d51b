#!/usr/bin/env bash
# torchvision 0.29.1 (PyTorch 2.14.1, NumPy 2.4.6): keypoints (tv_tensors.KeyPoints) in transforms.v2, beside the picture and
# boxes.
#
# Guess: a point goes where the picture's pixel goes; to flip in both directions is to turn by 180 degrees.
# Seen: the two differ by one pixel in each direction. Flips take x to W - 1 - x, as if whole numbers were the middles of
# pixels; turns, resizing, and the boxes in all of them take them for the edges of pixels, where a flip is W - x. So with the
# one reading a flip shifts points by a pixel against picture and box, with the other a turn does, and no reading fits both. A
# point on a box's middle is not on it after RandomHorizontalFlip.
# Whoever trains on keypoints flips by hand: for coordinates that go with boxes, W - x.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torchvision==0.29.1 torch==2.14.1 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

H, W, row, column = 20, 31, 5, 7
picture = torch.zeros(1, H, W)
picture[0, row, column] = 1.0                               # one pixel, a box around it, a point in its middle
sample = (tv_tensors.Image(picture),
          tv_tensors.BoundingBoxes([[column, row, column + 1.0, row + 1.0]], format="XYXY", canvas_size=(H, W)),
          tv_tensors.KeyPoints([[column + 0.5, row + 0.5]], canvas_size=(H, W)))


def places(*transforms):
    """Where the pixel's middle, the box's middle and the point are, from the picture's left upper corner."""
    image, box, point = v2.Compose(transforms)(*sample)
    weights = image[0] / image.sum()
    pixel = [float((weights.sum(0) * (torch.arange(weights.shape[1]) + 0.5)).sum()),
             float((weights.sum(1) * (torch.arange(weights.shape[0]) + 0.5)).sum())]
    return [[round(v, 3) for v in place] for place in (pixel, ((box[0, :2] + box[0, 2:]) / 2).tolist(), point[0].tolist())]


across, down, turn = v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(1.0), v2.RandomRotation((180, 180))
nearest = v2.InterpolationMode.NEAREST
cases = {"as it was": [v2.Identity()], "flip across": [across], "flip down": [down], "flip both": [across, down],
         "turn by 180": [turn], "turn by 90": [v2.RandomRotation((90, 90), expand=True)],
         "twice as large": [v2.Resize((2 * H, 2 * W), interpolation=nearest)]}
found = {name: places(*transforms) for name, transforms in cases.items()}
for name, (pixel, box, point) in found.items():
    print(f"{name:14} pixel {pixel}, box {box}, point {point}")
    assert pixel == box
off = {name: [a - b for a, b in zip(point, pixel, strict=True)] for name, (pixel, _, point) in found.items()}
assert off == {name: [-1.0 * (name in ("flip across", "flip both")), -1.0 * (name in ("flip down", "flip both"))]
               for name in cases}
assert found["flip both"][0] == found["turn by 180"][0]
PY

#!/usr/bin/env bash
# AlbumentationsX 2.5.1 (PyTorch 2.14.1, opencv-python-headless 5.0.0.93, NumPy 2.4.6): keypoints with an angle,
# coord_format="xya".
#
# Guess: an angle means one thing in all transforms: it is turned as a second keypoint is, some pixels away in that direction.
# Seen: it means two. To Transpose, RandomRotate90, D4 and SquareSymmetry an angle goes from the x axis towards larger y, which is
# down in a picture; to Rotate, SafeRotate, Affine and ShiftScaleRotate it goes up, as in mathematics. Flips are right either way.
# A quarter turn by Affine(rotate=90) and the same one by RandomRotate90 move the pixels and the point to one place, and the angle
# to two that are opposite. In whichever way angles are given, the transforms of one group turn them the wrong way, by up to 180
# degrees, without a warning. (Of its predecessor, albumentations, such reports are of 2020 and 2021, and closed.)
# Whoever trains on directions gives the point and its tip as two keypoints, and computes the angle of those.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check albumentationsx==2.5.1 \
    opencv-python-headless==5.0.0.93 torch==2.14.1 numpy==2.4.6
cd "$dir"
NO_ALBUMENTATIONS_UPDATE=1 "$dir/venv/bin/python" -W ignore - <<'PY'
import albumentations as A
import numpy as np

SIZE, BASE, REACH = 101, np.array([50.0, 50.0]), 20.0
picture = np.zeros((SIZE, SIZE, 3), np.uint8)
picture[20:40, 30:35] = 255


def transformed(transform, angle, down, seed):
    """The picture, the angle that comes out, and that of the arrow from the point to its tip, counted in the same way."""
    radians, sign = np.deg2rad(angle), 1 if down else -1
    tip = BASE + REACH * np.array([np.cos(radians), sign * np.sin(radians)])
    made = A.Compose([transform], keypoint_params=A.KeypointParams(coord_format="xya", remove_invisible=False), seed=seed)(
        image=picture, keypoints=np.array([[*BASE, angle], [*tip, angle]], np.float32))
    (x, y, seen), (u, v, _) = made["keypoints"]
    return made["image"], float(seen), float(np.rad2deg(np.arctan2(sign * (v - y), u - x)) % 360)


def apart(a, b):
    return abs((a - b + 180) % 360 - 180)


GROUPS = {"towards larger y": (A.Transpose(p=1), A.RandomRotate90(p=1), A.D4(p=1), A.SquareSymmetry(p=1)),
          "towards smaller y": (A.Rotate(angle_range=(20, 40), p=1), A.SafeRotate(angle_range=(20, 40), p=1),
                                A.Affine(rotate=(20, 40), p=1), A.ShiftScaleRotate(p=1)),
          "either way": (A.HorizontalFlip(p=1), A.VerticalFlip(p=1))}
for way, transforms in GROUPS.items():
    for transform in transforms:
        off = {}
        for down in (True, False):
            off[down] = max(apart(*transformed(transform, angle, down, seed)[1:])
                            for angle in (0.0, 30.0, 100.0, 290.0) for seed in range(6))
        print(f"{type(transform).__name__:16}: off by up to {off[True]:5.1f} degrees where angles go towards larger y, "
              f"{off[False]:5.1f} otherwise")
        assert (off[True] < 0.5) == (way != "towards smaller y"), "that changed"
        assert (off[False] < 0.5) == (way != "towards larger y"), "that changed"

turns = (transformed(A.RandomRotate90(p=1), 0.0, True, seed) for seed in range(50))
quarter = next(t for t in turns if 80 < t[1] < 280 and t[1] != 180)
for rotate in (90, -90):
    image, angle, _ = transformed(A.Affine(rotate=(rotate, rotate), p=1), 0.0, True, 0)
    if np.array_equal(image, quarter[0]):
        print(f"the same quarter turn of the picture: angle 0 becomes {quarter[1]:.0f} by RandomRotate90 "
              f"and {angle:.0f} by Affine")
        assert apart(angle, quarter[1]) > 179, "that changed"
        break
else:
    raise SystemExit("no quarter turn of Affine is that of RandomRotate90")
PY

"""Write a folder with an image of every kind that people have, and with files that are none.

Usage: python scripts/make_mixed_folder.py FOLDER
"""

import io
import sys
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms
from skimage import data
from skimage.transform import resize

HEIGHT, WIDTH = 96, 128
NOISE_SIGMA = 25.0  # on the 0-255 scale


def make_mixed_folder(folder: Path) -> None:
    """Noisy photographs in all disguises; the names say which, and differ by more than their suffix."""
    random = np.random.default_rng(0)
    photo = resize(data.astronaut()[:384, 64:576], (HEIGHT, WIDTH), anti_aliasing=True)
    noisy = np.clip(photo + random.normal(0, NOISE_SIGMA / 255, photo.shape), 0, 1)
    color = (noisy * 255 + 0.5).astype(np.uint8)
    gray = (noisy[:, :, 1] * 255 + 0.5).astype(np.uint8)
    color16 = (noisy * 65535 + 0.5).astype(np.uint16)
    ramp = np.broadcast_to(np.linspace(0, 255, WIDTH).astype(np.uint8), gray.shape)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb = Pillow.fromarray(color)

    for name in ("color", "deep", "alpha", "camera", "several", "damaged", "extreme"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "jpg", "tiff", "webp", "bmp"):
        rgb.save(folder / f"color/{suffix}.{suffix}")
    Pillow.fromarray(gray).save(folder / "gray.png")
    Pillow.fromarray(gray).save(folder / "gray_jpeg.jpeg")
    Pillow.fromarray(gray > 127).save(folder / "bilevel.tif")
    rgb.quantize(64).save(folder / "palette.png")
    rgb.quantize(64).save(folder / "still.gif")

    (folder / "deep/gray16.png").write_bytes(encode(color16[:, :, 1]))
    (folder / "deep/color16.png").write_bytes(encode(color16[:, :, ::-1]))
    tifffile.imwrite(folder / "deep/color16_tiff.tif", color16, photometric="rgb", iccprofile=profile)
    alpha16 = np.dstack([color16[:, :, ::-1], ramp.astype(np.uint16) * 257])
    (folder / "deep/alpha16.png").write_bytes(encode(alpha16))
    tifffile.imwrite(folder / "deep/float.tif", noisy.astype(np.float32), photometric="rgb")

    Pillow.fromarray(np.dstack([color, ramp])).save(folder / "alpha/rgba.png")
    Pillow.fromarray(np.dstack([color, ramp])).save(folder / "alpha/webp.webp", lossless=True, exact=True)
    Pillow.fromarray(np.dstack([gray, ramp])).save(folder / "alpha/gray.png")
    rgb.quantize(64).save(folder / "alpha/palette.png", transparency=0)

    turned = Pillow.Exif()
    turned[0x010F] = "Maker of cameras"
    turned[0x0112] = 6  # to be turned clockwise
    Pillow.fromarray(np.rot90(color)).save(folder / "camera/turned.jpg", exif=turned, icc_profile=profile, quality=95)
    rgb.save(folder / "camera/preview.jpg", format="MPO", save_all=True, append_images=[rgb.resize((32, 24))])
    rgb.convert("CMYK").save(folder / "camera/cmyk.jpg", quality=95)

    frames = [Pillow.fromarray(np.roll(color, 8 * step, axis=1)) for step in range(3)]
    for name in ("gif.gif", "apng.png", "webp.webp", "pages.tif"):
        frames[0].save(folder / "several" / name, save_all=True, append_images=frames[1:])

    whole = encode(color[:, :, ::-1])
    (folder / "damaged/truncated.png").write_bytes(whole[: len(whole) * 2 // 3])
    jpeg = (folder / "color/jpg.jpg").read_bytes()
    (folder / "damaged/truncated_jpeg.jpg").write_bytes(jpeg[: len(jpeg) * 2 // 3])
    (folder / "damaged/text.png").write_text("Dear diary, this is no image.\n")
    (folder / "damaged/empty.jpg").write_bytes(b"")
    bomb = io.BytesIO()
    Pillow.new("1", (60000, 20000)).save(bomb, "PNG")  # 1200 megapixels in 150 kB
    (folder / "damaged/bomb.png").write_bytes(bomb.getvalue())

    Pillow.fromarray(color[:1, :1]).save(folder / "extreme/one.png")
    Pillow.fromarray(np.tile(color[:2], (1, 30000 // WIDTH + 1, 1))[:, :30000]).save(folder / "extreme/strip.png")


def encode(image: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A PNG of (H, W) gray, or (H, W, 3 or 4) in BGR."""
    return cv2.imencode(".png", image)[1].tobytes()


if __name__ == "__main__":
    make_mixed_folder(Path(sys.argv[1]))

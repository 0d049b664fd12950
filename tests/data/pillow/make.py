"""Makes this folder with Pillow (13.0.0 was used): what `Image.open(f).convert("RGB")`, `Resize(int(side / 0.875), BICUBIC)` and
`CenterCrop(side)` give for some of the pictures in ../pictures, and odd but valid files with their RGB pixels.

    python3 make.py
"""

from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PICTURES = HERE.parent / "pictures"


def crop(image, side):
    """torchvision's Resize and CenterCrop, with their roundings."""
    short = int(side / 0.875)
    width, height = image.size
    if width <= height:
        size = (short, int(short * height / width))
    else:
        size = (int(short * width / height), short)
    image = image.resize(size, Image.BICUBIC)
    left, top = (int(round((length - side) / 2.0)) for length in size)
    return image.crop((left, top, left + side, top + side))


def main():
    for name, side in [
        ("n02102040/n02102040_6060", 224),
        ("n03888257/n03888257_27102", 224),
        ("n03417042/n03417042_11611", 96),
        ("n03445777/n03445777_5992", 96),
    ]:
        image = Image.open(PICTURES / f"{name}.JPEG").convert("RGB")
        crop(image, side).save(HERE / f"{Path(name).name}.{side}.png", optimize=True)
    # Neither side a multiple of anything, taller than wide; other colour models and samplings.
    image = Image.open(PICTURES / "n01440764/ILSVRC2012_val_00017700.JPEG").convert("RGB").crop((40, 30, 117, 133))
    image.convert("CMYK").save(HERE / "cmyk.jpg", quality=80)
    image.convert("L").save(HERE / "grey.jpg", quality=80)
    image.save(HERE / "progressive-4-2-2.jpg", quality=80, progressive=True, subsampling=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(HERE / "exif-rotated-4-4-4.jpg", quality=80, subsampling=0, exif=exif)
    image.quantize(64).save(HERE / "palette.png")
    for path in sorted(HERE.glob("*.jpg")) + [HERE / "palette.png"]:
        Image.open(path).convert("RGB").save(HERE / f"{path.stem}.rgb.png", optimize=True)


if __name__ == "__main__":
    main()

//! The pictures of the self-test: photographs inside the program, so that it can be made on any device.

use std::path::Path;

use crate::error::Result;
use crate::frame::{Inputs, Picture};
use crate::model::Model;
use crate::preprocess::{Preprocess, decode};

const PICTURES: [&[u8]; 12] = [
    include_bytes!("../../tests/data/pictures/n01440764/ILSVRC2012_val_00017700.JPEG"),
    include_bytes!("../../tests/data/pictures/n02102040/n02102040_6060.JPEG"),
    include_bytes!("../../tests/data/pictures/n02102040/n02102040_7562.JPEG"),
    include_bytes!("../../tests/data/pictures/n02979186/n02979186_140.JPEG"),
    include_bytes!("../../tests/data/pictures/n03000684/n03000684_12430.JPEG"),
    include_bytes!("../../tests/data/pictures/n03028079/n03028079_30232.JPEG"),
    include_bytes!("../../tests/data/pictures/n03028079/n03028079_79790.JPEG"),
    include_bytes!("../../tests/data/pictures/n03394916/n03394916_46521.JPEG"),
    include_bytes!("../../tests/data/pictures/n03417042/n03417042_11611.JPEG"),
    include_bytes!("../../tests/data/pictures/n03425413/n03425413_20741.JPEG"),
    include_bytes!("../../tests/data/pictures/n03445777/n03445777_5992.JPEG"),
    include_bytes!("../../tests/data/pictures/n03888257/n03888257_27102.JPEG"),
];

/// Their tensors, as `model` sees them.
///
/// # Errors
/// When the model's crop ratio makes no sense.
pub(super) fn inputs(model: &Model) -> Result<Vec<Inputs>> {
    let mut preprocess = Preprocess::new(&model.geometry, model.crop)?;
    let mut picture = Picture::default();
    let mut made = Vec::new();
    for bytes in PICTURES {
        decode::decode(bytes, Path::new("a bundled picture"), &mut picture)?;
        let mut inputs = Inputs::default();
        preprocess.run(&picture, &mut inputs)?;
        made.push(inputs);
    }
    Ok(made)
}

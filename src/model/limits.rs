//! Every limit on what a model file may claim, in one place. A file is hostile until it has been read: each limit is checked
//! before memory is asked for, and each is far above what any real checkpoint of these families needs.

/// The pickle inside a `.pth`. The published checkpoints have 20 KB; one with the optimizer of 1000 tensors has 500 KB.
pub const MAX_PICKLE_BYTES: u64 = 4 << 20;
/// Values and container elements that a pickle may make, memo entries and stack slots that it may fill.
pub const MAX_PICKLE_VALUES: usize = 400_000;
/// Open marks: how deep a pickle may nest the building of containers.
pub const MAX_PICKLE_MARKS: usize = 1_000;
/// Length of `module.name` in a pickle.
pub const MAX_GLOBAL_NAME: usize = 512;
/// Dimensions of a tensor.
pub const MAX_RANK: usize = 8;
/// Bytes that finding and listing the entries of a zip may take.
pub const MAX_ZIP_DIRECTORY_BYTES: u64 = 8 << 20;
/// The JSON header of a `.safetensors` file. The published models need 20 KB.
pub const MAX_SAFETENSORS_HEADER: u64 = 4 << 20;
/// `manifest.toml` and the labels file of an engine package.
pub const MAX_TEXT_BYTES: u64 = 4 << 20;
/// Characters of a label's id or name.
pub const MAX_LABEL_CHARS: usize = 200;

/// Embedding width.
pub const MAX_WIDTH: usize = 4_096;
/// Hidden width of the MLPs.
pub const MAX_HIDDEN: usize = 16_384;
/// Blocks.
pub const MAX_DEPTH: usize = 128;
/// Cells on a side of the coarse grid.
pub const MAX_GRID: usize = 64;
/// Pixels on a side of a patch.
pub const MAX_PATCH: usize = 64;
/// Channels inside LV-ViT's stem.
pub const MAX_STEM: usize = 512;
/// Classes.
pub const MAX_CLASSES: usize = 100_000;
/// Values of all tensors together (1 GiB of 32-bit floats); ten times the largest published backbone.
pub const MAX_VALUES: u64 = 1 << 28;
/// The tensors may not take more memory than this many times the file's size plus [`MEMORY_SLACK`]. Halves double when they are read, and an
/// expanded (stride 0) tensor takes less in the file than in memory, but no honest file is far from its size.
pub const MEMORY_PER_FILE_BYTE: u64 = 4;
/// See [`MEMORY_PER_FILE_BYTE`].
pub const MEMORY_SLACK: u64 = 16 << 20;

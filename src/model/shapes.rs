//! The geometry of a model, read from the shapes of its tensors. Only the head count is not in them.

use super::limits::{MAX_CLASSES, MAX_DEPTH, MAX_GRID, MAX_HIDDEN, MAX_PATCH, MAX_STEM, MAX_WIDTH};
use super::weights::Listing;
use super::{DEFAULT_HEAD_DIM, FIRST_ATTENTION_BLOCK, Family, Geometry};
use crate::error::{Error, Kind, Result};

/// Who says how many attention heads there are, the first that does: the command line, the file, `width / 64`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heads {
    /// `--heads`.
    pub asked: Option<usize>,
    /// The manifest of the package or the metadata of the file.
    pub stored: Option<usize>,
}

/// The geometry that the shapes in `listing` stand for.
///
/// # Errors
/// [`Kind::Model`] when a tensor that it is read from is missing or of an impossible shape; [`Kind::Usage`] for a `--heads` that
/// does not divide the width.
pub(super) fn geometry(listing: &Listing, heads: Heads) -> Result<Geometry> {
    let family = if listing.contains_key("patch_embed.conv1.weight") || listing.contains_key("aux_head.weight") {
        Family::Lvvit
    } else {
        Family::Deit
    };
    reject_other_models(listing)?;
    let [_, tokens, width] = dims(listing, "pos_embed_list.0")?;
    within("pos_embed_list.0", "width", width, MAX_WIDTH)?;
    let grid = grid(tokens)?;
    let [classes, _] = dims(listing, "head.weight")?;
    within("head.weight", "number of classes", classes, MAX_CLASSES)?;
    let [hidden, _] = dims(listing, "reuse_block.1.fc1.weight")?;
    within("reuse_block.1.fc1.weight", "hidden width", hidden, MAX_HIDDEN)?;
    let (patch, stem) = patch(listing, family)?;
    let depth = depth(listing)?;
    let heads = head_count(width, heads)?;
    Ok(Geometry { family, grid, patch, width, depth, heads, hidden, classes, stem })
}

/// A plain ViT or something else entirely gets a better answer than a missing tensor's name.
fn reject_other_models(listing: &Listing) -> Result<()> {
    if listing.contains_key("pos_embed_list.0") {
        return Ok(());
    }
    let hint = if listing.contains_key("pos_embed") {
        "it has `pos_embed`, so it is a plain vision transformer, not one trained with CF-ViT's two stages"
    } else {
        "it is no CF-ViT checkpoint"
    };
    Err(Error::new(
        Kind::Model,
        format!("tensor `pos_embed_list.0` is missing among {} tensors: {hint}", listing.len()),
    ))
}

/// The shape of the tensor `name`, which must have `N` dimensions.
fn dims<const N: usize>(listing: &Listing, name: &str) -> Result<[usize; N]> {
    let Some(entry) = listing.get(name) else {
        return Err(Error::new(Kind::Model, format!("tensor `{name}` is missing, expected one of {N} dimensions")));
    };
    entry.shape.as_slice().try_into().map_err(|_| {
        Error::new(Kind::Model, format!("tensor `{name}`: expected {N} dimensions, found shape {:?}", entry.shape))
    })
}

/// A size that is neither zero nor beyond its limit.
fn within(name: &str, what: &str, size: usize, limit: usize) -> Result<()> {
    match size {
        0 => Err(Error::new(Kind::Model, format!("tensor `{name}`: a {what} of 0"))),
        _ if size > limit => {
            Err(Error::new(Kind::Model, format!("tensor `{name}`: a {what} of {size}, at most {limit} is supported")))
        }
        _ => Ok(()),
    }
}

/// `g` of `1 + g²` coarse tokens.
fn grid(tokens: usize) -> Result<usize> {
    let cells = tokens.saturating_sub(1);
    let grid = cells.isqrt();
    if grid == 0 || grid * grid != cells {
        return Err(Error::new(
            Kind::Model,
            format!(
                "tensor `pos_embed_list.0`: {tokens} tokens, expected 1 + g² for a square grid (50 for 7×7, 82 for 9×9)"
            ),
        ));
    }
    within("pos_embed_list.0", "grid side", grid, MAX_GRID)?;
    Ok(grid)
}

/// Patch side and channels of the stem (0 for DeiT).
fn patch(listing: &Listing, family: Family) -> Result<(usize, usize)> {
    const NAME: &str = "patch_embed.proj.weight";
    let [_, inputs, rows, _] = dims(listing, NAME)?;
    match family {
        Family::Deit => {
            within(NAME, "patch side", rows, MAX_PATCH)?;
            Ok((rows, 0))
        }
        // The stem halves the picture before its patch convolution, so the patch is twice that and always even.
        Family::Lvvit => {
            within(NAME, "half patch side", rows, MAX_PATCH / 2)?;
            within(NAME, "stem width", inputs, MAX_STEM)?;
            Ok((2 * rows, inputs))
        }
    }
}

/// One more than the highest block number.
fn depth(listing: &Listing) -> Result<usize> {
    let number = |name: &String| name.strip_prefix("blocks.")?.split('.').next()?.parse::<usize>().ok();
    let depth = listing.keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1));
    if depth <= FIRST_ATTENTION_BLOCK || depth > MAX_DEPTH {
        let least = FIRST_ATTENTION_BLOCK + 1;
        return Err(Error::new(
            Kind::Model,
            format!(
                "{depth} blocks, expected {least} to {MAX_DEPTH}: the regions are chosen from the attention of block {least} on"
            ),
        ));
    }
    Ok(depth)
}

fn head_count(width: usize, heads: Heads) -> Result<usize> {
    let divides = |h: usize| h > 0 && width.is_multiple_of(h);
    match (heads.asked, heads.stored) {
        (Some(h), _) if !divides(h) => {
            Err(Error::new(Kind::Usage, format!("--heads {h} does not divide the embedding width {width}")))
        }
        (None, Some(h)) if !divides(h) => Err(Error::new(
            Kind::Model,
            format!(
                "the file says {h} heads, which does not divide the embedding width {width}: say the right number with --heads"
            ),
        )),
        (Some(h), _) | (None, Some(h)) => Ok(h),
        (None, None) if width.is_multiple_of(DEFAULT_HEAD_DIM) => Ok(width / DEFAULT_HEAD_DIM),
        (None, None) => Err(Error::new(
            Kind::Model,
            format!(
                "the embedding width {width} is no multiple of {DEFAULT_HEAD_DIM}, so the number of attention heads cannot be \
                 guessed: say it with --heads N"
            ),
        )),
    }
}

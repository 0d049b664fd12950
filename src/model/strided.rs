//! Tensors as views into a storage: PyTorch keeps an offset and a stride per dimension, counted in values.

use super::DType;

/// A view into a storage. All numbers count values, not bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where the first value lies.
    pub offset: usize,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Distance between neighbours in each dimension; as many as dimensions. 0 repeats (an expanded tensor).
    pub stride: Vec<usize>,
}

impl View {
    /// Number of values, `None` when it overflows.
    pub fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// How many values the storage must have for this view to lie inside it; `None` when it overflows.
    pub fn extent(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let mut last = self.offset;
        for (&d, &s) in self.shape.iter().zip(&self.stride) {
            last = last.checked_add((d - 1).checked_mul(s)?)?;
        }
        last.checked_add(1)
    }

    /// Whether the values lie one after another in row-major order.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.stride).rev().all(|(&d, &s)| {
            let fits = d == 1 || s == expected;
            expected *= d;
            fits
        })
    }

    /// The view's values in row-major order, from the little-endian bytes of its storage. `None` when the view does not lie
    /// inside the storage, or is of a type that holds no weights. The caller bounds [`View::len`]: an expanded view may be
    /// larger than its storage.
    pub fn read(&self, storage: &[u8], dtype: DType) -> Option<Vec<f32>> {
        let size = dtype.size()?;
        let (len, extent) = (self.len()?, self.extent()?);
        if self.shape.len() != self.stride.len() || extent > storage.len() / size {
            return None;
        }
        if len == 0 {
            return Some(Vec::new());
        }
        if self.is_contiguous() {
            return Some(dtype.decode(storage.get(self.offset * size..(self.offset + len) * size)?));
        }
        let used = dtype.decode(storage.get(self.offset * size..extent * size)?);
        Some(self.walk(&used, len))
    }

    /// Picks the `len` values one by one out of `used`, which begins at the view's offset: an odometer over the indices.
    fn walk(&self, used: &[f32], len: usize) -> Vec<f32> {
        // A dimension of 1 never moves, and its stride may be any number at all.
        let dims: Vec<(usize, usize)> =
            self.shape.iter().copied().zip(self.stride.iter().copied()).filter(|&(d, _)| d > 1).collect();
        let mut values = Vec::with_capacity(len);
        let mut index = vec![0; dims.len()];
        let mut at = 0;
        for _ in 0..len {
            values.push(used[at]);
            for (i, &(d, stride)) in index.iter_mut().zip(&dims).rev() {
                *i += 1;
                if *i < d {
                    at += stride;
                    break;
                }
                *i = 0;
                at -= (d - 1) * stride;
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Shape, strides (any order, any gaps, zeros) and offset of a small view.
    fn view() -> impl Strategy<Value = View> {
        prop::collection::vec((1usize..5, 0usize..7), 0..5).prop_flat_map(|dims| {
            let (shape, stride): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            (0usize..9).prop_map(move |offset| View { offset, shape: shape.clone(), stride: stride.clone() })
        })
    }

    /// Recomputes each flat position from its indices, one division at a time.
    fn oracle(view: &View, storage: &[f32]) -> Vec<f32> {
        let len: usize = view.shape.iter().product();
        let value = |mut flat: usize| {
            let mut at = view.offset;
            for d in (0..view.shape.len()).rev() {
                at += flat % view.shape[d] * view.stride[d];
                flat /= view.shape[d];
            }
            storage[at]
        };
        (0..len).map(value).collect()
    }

    proptest! {
        #[test]
        fn strided_reads_equal_the_naive_ones(view in view(), spare in 0usize..3) {
            let storage: Vec<f32> = (0..view.extent().unwrap() + spare).map(|i| i as f32).collect();
            for dtype in [DType::F32, DType::F64, DType::F16] {
                let read = view.read(&dtype.encode(&storage), dtype);
                prop_assert_eq!(read, Some(oracle(&view, &storage)));
            }
        }

        #[test]
        fn a_view_that_leaves_its_storage_is_refused(view in view()) {
            let short = vec![0; view.extent().unwrap() * 4 - 1];
            prop_assert_eq!(view.read(&short, DType::F32), None);
        }

        #[test]
        fn no_numbers_overflow(offset: usize, dims in prop::collection::vec((any::<usize>(), any::<usize>()), 0..5)) {
            let (shape, stride) = dims.into_iter().unzip();
            let view = View { offset, shape, stride };
            if let Some(values) = view.read(&[0; 64], DType::F32) {
                prop_assert!(view.len() == Some(values.len()));
            }
        }
    }

    #[test]
    fn a_contiguous_view_and_an_expanded_one() {
        let bytes = DType::F32.encode(&[0.0, 1.0, 2.0, 3.0]);
        let row = View { offset: 1, shape: vec![1, 3], stride: vec![7, 1] };
        assert_eq!(row.read(&bytes, DType::F32), Some(vec![1.0, 2.0, 3.0]));
        let expanded = View { offset: 3, shape: vec![2, 2], stride: vec![0, 0] };
        assert_eq!(expanded.read(&bytes, DType::F32), Some(vec![3.0; 4]));
        assert_eq!(expanded.read(&bytes, DType::Other), None);
    }
}

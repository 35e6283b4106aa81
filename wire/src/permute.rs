//! Putting a tensor whose axes are stored in another order into C order.

use smallvec::SmallVec;

/// How cells of one physical shape become C order of the logical shape.
///
/// As the format of `arrow.fixed_shape_tensor` has it, logical axis `i` is physical axis
/// `permutation[i]`. (PyArrow's `from_numpy_ndarray` writes the inverse of what its own reader
/// uses; a swap of two axes hides that, a cycle of three shows it.)
#[derive(Clone, Debug)]
pub struct Permute {
    /// Logical axes that do not lie as they should, slowest first: length, and bytes between
    /// neighbours in the source.
    axes: SmallVec<[(usize, usize); 6]>,
    /// Bytes that lie together in both.
    block: usize,
    cell_bytes: usize,
}

impl Permute {
    /// For cells of `shape` (physical) whose values have `width` bytes. `None` where the
    /// permutation is none of the shape's axes, or a cell has more bytes than can be addressed.
    pub fn new(shape: &[u64], permutation: &[usize], width: usize) -> Option<Self> {
        let mut seen = vec![false; shape.len()];
        if permutation.len() != shape.len() {
            return None;
        }
        // Physical strides.
        let mut strides: SmallVec<[(usize, usize); 6]> = SmallVec::new();
        let mut bytes = width;
        for &dim in shape.iter().rev() {
            let dim = usize::try_from(dim).ok()?;
            strides.push((dim, bytes));
            bytes = bytes.checked_mul(dim)?;
        }
        strides.reverse();
        let mut axes: SmallVec<[(usize, usize); 6]> = SmallVec::new();
        for &axis in permutation {
            if std::mem::replace(seen.get_mut(axis)?, true) {
                return None;
            }
            axes.push(*strides.get(axis)?);
        }
        let mut block = width;
        while let Some(&(dim, stride)) = axes.last() {
            if stride != block && dim != 1 {
                break;
            }
            block *= dim;
            axes.pop();
        }
        Some(Self {
            axes,
            block,
            cell_bytes: bytes,
        })
    }

    /// Bytes of one cell, the same before and after.
    pub fn cell_bytes(&self) -> usize {
        self.cell_bytes
    }

    /// Copies one cell. Both must have [`Permute::cell_bytes`] bytes; nothing is copied where
    /// they do not, and the answer is false.
    #[must_use]
    pub fn apply(&self, from: &[u8], to: &mut [u8]) -> bool {
        if from.len() != self.cell_bytes || to.len() != self.cell_bytes {
            return false;
        }
        if self.cell_bytes == 0 {
            return true;
        }
        let Some(((dim, stride), outer)) = self.axes.split_last() else {
            to.copy_from_slice(from);
            return true;
        };
        let mut at: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
        let mut source = 0;
        for row in to.chunks_exact_mut(dim * self.block) {
            let from = &from[source..];
            match self.block {
                1 => gather::<1>(from, *stride, row),
                2 => gather::<2>(from, *stride, row),
                4 => gather::<4>(from, *stride, row),
                8 => gather::<8>(from, *stride, row),
                16 => gather::<16>(from, *stride, row),
                block => {
                    for (i, to) in row.chunks_exact_mut(block).enumerate() {
                        to.copy_from_slice(&from[i * stride..i * stride + block]);
                    }
                }
            }
            // The next index of the outer axes, the last one fastest.
            for (axis, (dim, stride)) in outer.iter().enumerate().rev() {
                at[axis] += 1;
                source += stride;
                if at[axis] < *dim {
                    break;
                }
                source -= dim * stride;
                at[axis] = 0;
            }
        }
        true
    }
}

/// Copies of a width that the compiler knows, so that they are moves and not calls.
fn gather<const N: usize>(from: &[u8], stride: usize, to: &mut [u8]) {
    let (to, _) = to.as_chunks_mut::<N>();
    for (i, to) in to.iter_mut().enumerate() {
        to.copy_from_slice(&from[i * stride..i * stride + N]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cycle_of_three_axes() {
        // Physical shape [2, 3, 4]; logical axis 0 is physical axis 2, and so on: [4, 2, 3].
        let from: Vec<u8> = (0..24).collect();
        let permute = Permute::new(&[2, 3, 4], &[2, 0, 1], 1).unwrap();
        let mut to = vec![0; 24];
        assert!(permute.apply(&from, &mut to));
        let wanted: Vec<u8> = (0..4u8)
            .flat_map(|k| (0..2).flat_map(move |i| (0..3).map(move |j| i * 12 + j * 4 + k)))
            .collect();
        assert_eq!(to, wanted);
    }

    #[test]
    fn what_does_not_fit_is_none() {
        assert!(Permute::new(&[2, 3], &[0], 1).is_none());
        assert!(Permute::new(&[2, 3], &[0, 0], 1).is_none());
        assert!(Permute::new(&[2, 3], &[0, 2], 1).is_none());
        assert!(Permute::new(&[u64::MAX, 3], &[0, 1], 1).is_none());
        let permute = Permute::new(&[2, 3], &[1, 0], 1).unwrap();
        assert!(!permute.apply(&[0; 5], &mut [0; 6]));
        let nothing = Permute::new(&[2, 0, 3], &[2, 1, 0], 8).unwrap();
        assert!(nothing.apply(&[], &mut []));
    }

    fn cells() -> impl Strategy<Value = (Vec<u64>, Vec<usize>, usize)> {
        let width = prop::sample::select(vec![1usize, 2, 4, 8, 16, 3]);
        (prop::collection::vec(0u64..5, 0..6), width).prop_flat_map(|(shape, width)| {
            let axes: Vec<usize> = (0..shape.len()).collect();
            (Just(shape), Just(axes).prop_shuffle(), Just(width))
        })
    }

    proptest! {
        #[test]
        fn as_the_definition_says((shape, permutation, width) in cells()) {
            let dims: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
            let values: usize = dims.iter().product();
            let from: Vec<u8> = (0..values * width).map(|i| (i * 31 % 251) as u8).collect();
            let mut to = vec![0; from.len()];
            let permute = Permute::new(&shape, &permutation, width).unwrap();
            prop_assert!(permute.apply(&from, &mut to));
            let logical: Vec<usize> = permutation.iter().map(|p| dims[*p]).collect();
            for flat in 0..values {
                let mut rest = flat;
                let mut physical = vec![0; dims.len()];
                for axis in (0..dims.len()).rev() {
                    physical[permutation[axis]] = rest % logical[axis];
                    rest /= logical[axis];
                }
                let at = physical.iter().zip(&dims).fold(0, |at, (i, dim)| at * dim + i);
                prop_assert_eq!(&to[flat * width..][..width], &from[at * width..][..width]);
            }
        }
    }
}

//! Our random source as the HPKE library wants it.

use decores_types::Random;
use hpke::rand_core::{Infallible, TryCryptoRng, TryRng, utils};

pub(crate) struct HpkeRandom<'a>(pub(crate) &'a dyn Random);

impl TryRng for HpkeRandom<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for HpkeRandom<'_> {}

#[cfg(test)]
pub(crate) use test::TestRandom;

#[cfg(test)]
mod test {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::HpkeRandom;
    use decores_types::Random;
    use decores_types::digest::Digest;
    use hpke::rand_core::TryRng as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The same bytes at every run, others for every name.
    pub(crate) struct TestRandom {
        name: &'static str,
        counter: AtomicU64,
    }

    impl TestRandom {
        pub(crate) fn new(name: &'static str) -> Self {
            Self { name, counter: AtomicU64::new(0) }
        }
    }

    impl Random for TestRandom {
        fn fill(&self, out: &mut [u8]) {
            for part in out.chunks_mut(32) {
                let n = self.counter.fetch_add(1, Ordering::Relaxed);
                let digest = Digest::of(format!("{} {n}", self.name).as_bytes());
                part.copy_from_slice(digest.as_bytes().split_at(part.len()).0);
            }
        }
    }

    #[test]
    fn words_are_the_sources_bytes() {
        let random = TestRandom::new("words");
        let drawn = |n: u64| Digest::of(format!("words {n}").as_bytes());
        let small = HpkeRandom(&random).try_next_u32().unwrap();
        assert_eq!(small.to_le_bytes(), drawn(0).as_bytes()[..4]);
        let large = HpkeRandom(&random).try_next_u64().unwrap();
        assert_eq!(large.to_le_bytes(), drawn(1).as_bytes()[..8]);
    }
}

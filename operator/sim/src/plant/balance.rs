//! Who is least busy: pods by number of occupied slots, found in a few machine words.

/// Pods that can take a request, as one bit set per number of occupied slots.
#[derive(Debug)]
pub struct Balance {
    /// `levels[k]`: pods with k occupied slots; one bit per place.
    levels: Vec<Vec<u64>>,
    counts: Vec<u32>,
    /// Where the next search begins: equals take turns, as in the usual balancers.
    turn: usize,
}

impl Balance {
    /// For pods of `slots` slots each.
    pub fn new(slots: u32) -> Self {
        Self {
            levels: vec![Vec::new(); slots as usize],
            counts: vec![0; slots as usize],
            turn: 0,
        }
    }

    /// Room for places below `places`.
    pub fn grow(&mut self, places: usize) {
        for level in &mut self.levels {
            level.resize(places.div_ceil(64), 0);
        }
    }

    /// A pod takes part. A full one has no level, and nothing happens.
    #[inline]
    pub fn insert(&mut self, place: u32, occupied: u32) {
        if let Some(level) = self.levels.get_mut(occupied as usize) {
            level[place as usize / 64] |= 1 << (place % 64);
            self.counts[occupied as usize] += 1;
        }
    }

    /// The reverse of [`Self::insert`].
    #[inline]
    pub fn remove(&mut self, place: u32, occupied: u32) {
        if let Some(level) = self.levels.get_mut(occupied as usize) {
            level[place as usize / 64] &= !(1 << (place % 64));
            self.counts[occupied as usize] -= 1;
        }
    }

    /// The least busy pod with a free slot.
    #[inline]
    pub fn least(&mut self) -> Option<u32> {
        let level = self.counts.iter().position(|count| *count > 0)?;
        let words = &self.levels[level];
        let (first, bit) = (self.turn / 64, self.turn % 64);
        let first = if first < words.len() { first } else { 0 };
        // The word of `turn` is looked at twice: its upper part first, its lower part last.
        let upper = words[first] & (u64::MAX << bit);
        let (word, bits) = if upper != 0 {
            (first, upper)
        } else {
            (1..=words.len())
                .map(|step| (first + step) % words.len())
                .map(|word| (word, words[word]))
                .find(|(_, bits)| *bits != 0)?
        };
        let place = word * 64 + bits.trailing_zeros() as usize;
        self.turn = place + 1;
        Some(place as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_busy_comes_first_and_equals_take_turns() {
        let mut balance = Balance::new(2);
        balance.grow(130);
        assert_eq!(balance.least(), None);
        for place in [3, 64, 129] {
            balance.insert(place, 0);
        }
        balance.insert(70, 1);
        let turns: Vec<_> = (0..5).filter_map(|_| balance.least()).collect();
        assert_eq!(turns, [3, 64, 129, 3, 64]);
        for place in [3, 64, 129] {
            balance.remove(place, 0);
        }
        assert_eq!(balance.least(), Some(70));
        balance.remove(70, 1);
        balance.insert(70, 2);
        assert_eq!(balance.least(), None, "a full pod takes nothing");
    }
}

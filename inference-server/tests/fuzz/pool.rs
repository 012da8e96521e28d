//! The inputs that are worth a change: the corpus, and one for each further outcome that a target has shown.

use std::collections::BTreeSet;

use crate::mutate::{Random, mutate};

/// Outcomes beyond these are not told apart.
const OUTCOMES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct Pool {
    inputs: Vec<Vec<u8>>,
    seen: BTreeSet<String>,
}

impl Pool {
    /// Keeps an input of the corpus.
    pub fn keep(&mut self, input: Vec<u8>, outcome: &str) {
        self.seen.insert(class(outcome));
        self.inputs.push(input);
    }

    /// Keeps an input that has led to something new.
    pub fn offer(&mut self, input: Vec<u8>, outcome: &str) {
        if self.seen.len() < OUTCOMES_MAX && self.seen.insert(class(outcome)) {
            self.inputs.push(input);
        }
    }

    pub fn outcomes(&self) -> usize {
        self.seen.len()
    }

    /// A changed copy of one of the inputs.
    pub fn mutated(&self, random: &mut Random) -> Vec<u8> {
        let mut input = random.of(&self.inputs).clone();
        let other: &Vec<u8> = random.of(&self.inputs);
        mutate(&mut input, other, random);
        input
    }
}

/// A sentence without its numbers and without what stands between quotes, which are the input's.
fn class(outcome: &str) -> String {
    let mut class = String::new();
    let mut quoted = false;
    for character in outcome.chars() {
        if character == '"' {
            quoted = !quoted;
        }
        if !quoted && !character.is_ascii_digit() {
            class.push(character);
        }
    }
    class.truncate(class.char_indices().nth(160).map_or(class.len(), |(end, _)| end));
    class
}

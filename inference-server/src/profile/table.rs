//! Stacks as a table of pprof: each text, function and address stands in it once.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::maps::Map;
use super::pb::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

/// The handler of the signal; it is called by the return from it, a frame of the C library.
const HANDLER: &str = "perf_signal_handler";

/// A profile in the making.
#[derive(Debug)]
pub struct Table {
    profile: Profile,
    period: Duration,
    texts: HashMap<String, i64>,
    /// By the name before it is made readable.
    functions: HashMap<String, u64>,
    /// By address; `None` for the sampler's own.
    locations: HashMap<u64, Place>,
}

/// What an address is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Code(u64),
    Handler,
}

impl Table {
    /// An empty one for samples that stand for so much CPU time each.
    pub fn new(maps: Vec<Map>, period: Duration) -> Self {
        let mut table = Self {
            profile: Profile::default(),
            period,
            texts: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
        };
        table.text("");
        let samples = table.value_type("samples", "count");
        let cpu = table.value_type("cpu", "nanoseconds");
        table.profile.sample_type = vec![samples, cpu];
        table.profile.period_type = Some(cpu);
        table.profile.period = nanos(period);
        // The program itself first: pprof takes that for the one that was profiled.
        let own = std::env::current_exe().unwrap_or_default();
        let (mut first, rest): (Vec<Map>, Vec<Map>) = maps.into_iter().partition(|map| *own == *map.file);
        first.extend(rest);
        for (id, map) in (1..).zip(first) {
            let filename = table.text(&map.file);
            table.profile.mapping.push(Mapping {
                id,
                memory_start: map.start,
                memory_limit: map.end,
                file_offset: map.offset,
                filename,
                // Names are here; what has none has none in the file either.
                has_functions: true,
            });
        }
        table
    }

    /// When the profile was taken.
    pub fn set_time(&mut self, start: SystemTime, duration: Duration) {
        self.profile.time_nanos = nanos(start.duration_since(UNIX_EPOCH).unwrap_or_default());
        self.profile.duration_nanos = nanos(duration);
    }

    /// A stack of a thread, the leaf first, that was met so often.
    pub fn add(&mut self, frames: &[backtrace::Frame], thread: &str, count: isize) {
        let mut location_id = Vec::with_capacity(frames.len());
        let mut frames = frames.iter();
        while let Some(frame) = frames.next() {
            match self.place(frame) {
                Place::Code(id) => location_id.push(id),
                // What lies on it so far belongs to the sampler, as does the next one: the return from the signal.
                Place::Handler => {
                    location_id.clear();
                    frames.next();
                }
            }
        }
        let count = i64::try_from(count).unwrap_or(0);
        let (key, str) = (self.text("thread"), self.text(thread));
        self.profile.sample.push(Sample {
            location_id,
            value: vec![count, count.saturating_mul(nanos(self.period))],
            label: vec![Label { key, str }],
        });
    }

    /// The whole.
    pub fn finish(self) -> Profile {
        self.profile
    }

    fn place(&mut self, frame: &backtrace::Frame) -> Place {
        let address = frame.ip() as u64;
        if let Some(place) = self.locations.get(&address) {
            return *place;
        }
        let mut line = Vec::new();
        let mut is_handler = false;
        backtrace::resolve_frame(frame, |symbol| {
            let Some(name) = symbol.name() else { return };
            let mangled = String::from_utf8_lossy(name.as_bytes());
            is_handler |= mangled == HANDLER;
            let file = symbol.filename().map(|file| file.to_string_lossy()).unwrap_or_default();
            // Without the hash that tells two builds of a function apart.
            let function_id = self.function(&mangled, &format!("{name:#}"), &file);
            line.push(Line {
                function_id,
                line: symbol.lineno().map_or(0, i64::from),
            });
        });
        let place = if is_handler {
            Place::Handler
        } else {
            let mappings = &self.profile.mapping;
            let mapping = mappings
                .iter()
                .find(|mapping| (mapping.memory_start..mapping.memory_limit).contains(&address));
            let id = self.profile.location.len() as u64 + 1;
            let mapping_id = mapping.map_or(0, |mapping| mapping.id);
            self.profile.location.push(Location {
                id,
                mapping_id,
                address,
                line,
            });
            Place::Code(id)
        };
        self.locations.insert(address, place);
        place
    }

    fn function(&mut self, mangled: &str, readable: &str, file: &str) -> u64 {
        if let Some(id) = self.functions.get(mangled) {
            return *id;
        }
        let id = self.profile.function.len() as u64 + 1;
        let function = Function {
            id,
            name: self.text(readable),
            system_name: self.text(mangled),
            filename: self.text(file),
        };
        self.profile.function.push(function);
        self.functions.insert(mangled.to_owned(), id);
        id
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(index) = self.texts.get(text) {
            return *index;
        }
        let index = i64::try_from(self.profile.string_table.len()).unwrap_or(0);
        self.profile.string_table.push(text.to_owned());
        self.texts.insert(text.to_owned(), index);
        index
    }

    fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType {
            r#type: self.text(name),
            unit: self.text(unit),
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

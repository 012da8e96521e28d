//! Random numbers by key: the draw of request 17 is the same whoever serves it and whenever, so that policies meet equal luck.
//!
//! Logarithm and exponential come from `libm`, not from the machine's C library, so that a seed gives the same bytes on every machine.

/// What a draw is for. Each purpose has a stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Instants of requests inside their second, or gaps between them.
    Arrival = 1,
    /// Whether a thinned trace keeps a request.
    Thin = 2,
    /// Service time, by number of the request.
    Service = 3,
    /// Start time, by ordinal of the pod.
    Start = 4,
    /// Phases of scrapes and of decisions.
    Phase = 5,
    /// Whether a scrape fails.
    Scrape = 6,
    /// Which pods or targets a fault hits.
    Fault = 7,
    /// Which pod a request goes to, by number of the request.
    Balance = 8,
}

/// Draws of one purpose, by index. Any index may be asked for, in any order.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    key: u64,
}

/// 2^64 divided by the golden ratio: the step of SplitMix64 (Steele, Lea and Flood, 2014).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Stream {
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Self {
            key: mix(mix(seed.wrapping_add(GOLDEN)) ^ (purpose as u64).wrapping_mul(GOLDEN)),
        }
    }

    /// A stream of its own for one of several things of the same purpose.
    #[must_use]
    pub fn part(self, index: u64) -> Self {
        Self {
            key: mix(self.key ^ index.wrapping_add(1).wrapping_mul(0xD1B5_4A32_D192_ED03)),
        }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// Uniform in the open interval (0, 1).
    #[inline]
    pub fn uniform(self, index: u64) -> f64 {
        ((self.bits(index) >> 11) as f64 + 0.5) * (1.0 / (1_u64 << 53) as f64)
    }

    /// Standard normal.
    #[inline]
    pub fn normal(self, index: u64) -> f64 {
        normal_quantile(self.uniform(index))
    }

    /// Exponential with mean 1.
    #[inline]
    pub fn exponential(self, index: u64) -> f64 {
        -libm::log(self.uniform(index))
    }
}

/// A log-normal distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogNormal {
    mu: f64,
    sigma: f64,
}

impl LogNormal {
    /// With this mean and coefficient of variation: sigma^2 = ln(1 + cv^2), mu = ln(mean) - sigma^2/2.
    pub fn with_mean(mean: f64, cv: f64) -> Self {
        let variance = libm::log1p(cv * cv);
        Self {
            mu: libm::log(mean) - variance / 2.0,
            sigma: variance.sqrt(),
        }
    }

    /// With this median and standard deviation of the logarithm.
    pub fn with_median(median: f64, sigma: f64) -> Self {
        Self {
            mu: libm::log(median),
            sigma,
        }
    }

    /// The value that belongs to a standard normal draw.
    #[inline]
    pub fn of(self, normal: f64) -> f64 {
        libm::exp(self.mu + self.sigma * normal)
    }

    /// The value below which the share `p` lies.
    pub fn quantile(self, p: f64) -> f64 {
        self.of(normal_quantile(p))
    }
}

/// One sequence of draws for what needs an unknown number of them.
#[derive(Debug, Clone)]
pub struct Sequence {
    stream: Stream,
    next: u64,
}

impl Sequence {
    pub fn new(stream: Stream) -> Self {
        Self { stream, next: 0 }
    }

    fn step(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Gamma with mean 1 and this coefficient of variation; 0 gives 1 always, 1 is exponential.
    pub fn gamma(&mut self, cv: f64) -> f64 {
        if cv <= 0.0 {
            return 1.0;
        }
        let shape = 1.0 / (cv * cv);
        let boost = if shape < 1.0 {
            // Gamma(k) = Gamma(k + 1) U^(1/k).
            libm::exp(libm::log(self.uniform()) / shape)
        } else {
            1.0
        };
        // Marsaglia and Tsang, 2000, with their names d, c and v.
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let normal = normal_quantile(self.uniform());
            let v = (1.0 + c * normal).powi(3);
            let accept = libm::log(self.uniform());
            if v > 0.0 && accept < 0.5 * normal * normal + d - d * v + d * libm::log(v) {
                return d * v * boost / shape;
            }
        }
    }

    pub fn uniform(&mut self) -> f64 {
        let index = self.step();
        self.stream.uniform(index)
    }
}

/// Inverse of the standard normal distribution function: AS 241 (Wichura, 1988), relative accuracy 1e-16.
pub fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * polynomial(&CENTRE_TOP, r) / polynomial(&CENTRE_BOTTOM, r);
    }
    let r = (-libm::log(if q < 0.0 { p } else { 1.0 - p })).sqrt();
    let x = if r <= 5.0 {
        polynomial(&MIDDLE_TOP, r - 1.6) / polynomial(&MIDDLE_BOTTOM, r - 1.6)
    } else {
        polynomial(&TAIL_TOP, r - 5.0) / polynomial(&TAIL_BOTTOM, r - 5.0)
    };
    x.copysign(q)
}

/// Horner's scheme; the highest power comes first.
#[inline]
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

const CENTRE_TOP: [f64; 8] = [
    2_509.080_928_730_122_7,
    33_430.575_583_588_13,
    67_265.770_927_008_7,
    45_921.953_931_549_87,
    13_731.693_765_509_46,
    1_971.590_950_306_551_3,
    133.141_667_891_784_38,
    3.387_132_872_796_366_5,
];
const CENTRE_BOTTOM: [f64; 8] = [
    5_226.495_278_852_854,
    28_729.085_735_721_943,
    39_307.895_800_092_71,
    21_213.794_301_586_597,
    5_394.196_021_424_751,
    687.187_007_492_057_9,
    42.313_330_701_600_91,
    1.0,
];
const MIDDLE_TOP: [f64; 8] = [
    0.000_774_545_014_278_341_4,
    0.022_723_844_989_269_184,
    0.241_780_725_177_450_6,
    1.270_458_252_452_368_4,
    3.647_848_324_763_204_5,
    5.769_497_221_460_691,
    4.630_337_846_156_546,
    1.423_437_110_749_683_5,
];
const MIDDLE_BOTTOM: [f64; 8] = [
    1.050_750_071_644_416_9e-09,
    0.000_547_593_808_499_534_5,
    0.015_198_666_563_616_457,
    0.148_103_976_427_480_08,
    0.689_767_334_985_1,
    1.676_384_830_183_803_8,
    2.053_191_626_637_759,
    1.0,
];
const TAIL_TOP: [f64; 8] = [
    2.010_334_399_292_288_1e-07,
    2.711_555_568_743_487_6e-05,
    0.001_242_660_947_388_078_4,
    0.026_532_189_526_576_124,
    0.296_560_571_828_504_87,
    1.784_826_539_917_291_3,
    5.463_784_911_164_114,
    6.657_904_643_501_103,
];
const TAIL_BOTTOM: [f64; 8] = [
    2.044_263_103_389_939_7e-15,
    1.421_511_758_316_446e-07,
    1.846_318_317_510_054_8e-05,
    0.000_786_869_131_145_613_3,
    0.014_875_361_290_850_615,
    0.136_929_880_922_735_8,
    0.599_832_206_555_888,
    1.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_quantiles_are_those_of_tables() {
        let cases = [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.9, 1.281_551_565_544_600_4),
            (0.999, 3.090_232_306_167_813),
            (1e-10, -6.361_340_902_404_056),
            (1e-15, -7.941_345_326_170_997),
        ];
        for (p, expected) in cases {
            let value = normal_quantile(p);
            assert!((value - expected).abs() < 1e-12, "{p}: {value}, expected {expected}");
        }
    }

    fn moments(draws: impl Iterator<Item = f64>) -> (f64, f64) {
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for draw in draws {
            count += 1.0;
            sum += draw;
            squares += draw * draw;
        }
        let mean = sum / count;
        (mean, (squares / count - mean * mean).sqrt() / mean)
    }

    #[test]
    fn distributions_have_the_asked_moments() {
        let stream = Stream::new(3, Purpose::Service);
        for cv in [0.2, 0.5, 1.0] {
            let law = LogNormal::with_mean(2.0, cv);
            let (mean, seen) = moments((0..200_000).map(|index| law.of(stream.normal(index))));
            assert!((mean - 2.0).abs() < 0.02, "log-normal {cv}: mean {mean}");
            assert!((seen / cv - 1.0).abs() < 0.03, "log-normal {cv}: {seen}");
        }
        for cv in [0.0, 0.5, 1.0, 2.0] {
            let mut sequence = Sequence::new(stream);
            let (mean, seen) = moments((0..200_000).map(|_| sequence.gamma(cv)));
            assert!((mean - 1.0).abs() < 0.02, "gamma {cv}: mean {mean}");
            assert!((seen - cv).abs() < 0.03 * cv.max(1e-6), "gamma {cv}: {seen}");
        }
        let (mean, seen) = moments((0..200_000).map(|index| stream.exponential(index)));
        assert!((mean - 1.0).abs() < 0.02 && (seen - 1.0).abs() < 0.02, "{mean} {seen}");
        assert!((LogNormal::with_median(30.0, 0.3).quantile(0.5) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn streams_do_not_know_each_other() {
        let service = Stream::new(1, Purpose::Service);
        let start = Stream::new(1, Purpose::Start);
        let other_seed = Stream::new(2, Purpose::Service);
        let n = 50_000_u32;
        for other in [start, other_seed, service.part(0)] {
            let sum: f64 = (0..u64::from(n))
                .map(|index| (service.uniform(index) - 0.5) * (other.uniform(index) - 0.5))
                .sum();
            let correlation = 12.0 * sum / f64::from(n);
            // Four standard deviations.
            assert!(correlation.abs() < 4.0 / f64::from(n).sqrt(), "{correlation}");
        }
        assert_eq!(service.bits(9), Stream::new(1, Purpose::Service).bits(9));
    }
}

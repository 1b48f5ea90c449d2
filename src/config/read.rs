//! How knobs stand in a file: times as texts, sizes with a unit, numbers within their range.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::{LEAST_BEAT, Timeout};
use crate::wire::{Choice, Codec};

/// A time such as `250ms`.
#[derive(Clone, Copy, Debug)]
struct Time(Duration);

/// What the key `heartbeat` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `interval` and `limit`")]
struct Beat {
    interval: Time,
    limit: Time,
}

/// What threads can be called.
pub(crate) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.contains('\0') {
        return Err(Error::invalid_value(Unexpected::Str(&name), &"a name without NUL"));
    }
    Ok(name)
}

/// How often a thing may be there.
pub(crate) fn count<'de, D, T, const LEAST: u64, const MOST: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    deserializer.deserialize_u64(Number::<T, false> { least: LEAST, most: MOST, kind: PhantomData })
}

/// A size: a number of bytes, or a text with a unit.
pub(crate) fn bytes<'de, D, T, const LEAST: u64, const MOST: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    deserializer.deserialize_any(Number::<T, true> { least: LEAST, most: MOST, kind: PhantomData })
}

pub(crate) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Time::deserialize(deserializer).map(|Time(time)| time)
}

pub(crate) fn watchdog<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    time(deserializer).and_then(at_least_a_beat).map(Some)
}

pub(crate) fn heartbeat<'de, D>(deserializer: D) -> Result<Option<(Duration, Duration)>, D::Error>
where
    D: Deserializer<'de>,
{
    let Beat { interval: Time(interval), limit: Time(limit) } = Beat::deserialize(deserializer)?;
    Ok(Some((at_least_a_beat(interval)?, at_least_a_beat(limit)?)))
}

pub(crate) fn codecs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Choice, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Named {
        Binary,
        Json,
        OnlyBinary,
    }
    match Named::deserialize(deserializer)? {
        Named::Json if !Codec::HAS_JSON => Err(Error::invalid_value(
            Unexpected::Str("json"),
            &"`binary`: this program has no feature `json`",
        )),
        Named::Json => Ok(Choice { asks: Codec::Json, takes_json: true }),
        Named::Binary => Ok(Choice { asks: Codec::Binary, takes_json: Codec::HAS_JSON }),
        Named::OnlyBinary => Ok(Choice { asks: Codec::Binary, takes_json: false }),
    }
}

fn at_least_a_beat<E: Error>(time: Duration) -> Result<Duration, E> {
    if time >= LEAST_BEAT {
        return Ok(time);
    }
    Err(Error::invalid_value(Unexpected::Other(&format!("{time:?}")), &"at least \"10ms\""))
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        match deserializer.deserialize_str(Spelled { takes_never: false })? {
            Timeout::After(time) => Ok(Time(time)),
            Timeout::Never => Err(Error::custom("never is no time here")),
        }
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timeout, D::Error> {
        deserializer.deserialize_str(Spelled { takes_never: true })
    }
}

/// Reads a time, and `never` where that makes sense.
struct Spelled {
    takes_never: bool,
}

impl Visitor<'_> for Spelled {
    type Value = Timeout;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"250ms\", \"5s\" or \"2m\"")?;
        f.write_str(if self.takes_never { ", or \"never\"" } else { "" })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Timeout, E> {
        if text == "never" && self.takes_never {
            return Ok(Timeout::Never);
        }
        let time = parse(text, TIMES).map(|micros| Timeout::After(Duration::from_micros(micros)));
        time.ok_or_else(|| Error::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Reads a number within a range.
struct Number<T, const IS_SIZE: bool> {
    least: u64,
    most: u64,
    kind: PhantomData<T>,
}

impl<T: TryFrom<u64>, const IS_SIZE: bool> Number<T, IS_SIZE> {
    fn check<E: Error>(&self, number: Option<u64>, found: Unexpected<'_>) -> Result<T, E> {
        let number = number.filter(|number| (self.least..=self.most).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| Error::invalid_value(found, self))
    }
}

impl<T: TryFrom<u64>, const IS_SIZE: bool> Visitor<'_> for Number<T, IS_SIZE> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if IS_SIZE {
            "a size in bytes, or one such as \"16 MiB\", of "
        } else {
            "a number of "
        })?;
        match self.most {
            u64::MAX => write!(f, "at least {}", self.least),
            most => write!(f, "{} to {most}", self.least),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.check(number.try_into().ok(), Unexpected::Signed(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.check(Some(number), Unexpected::Unsigned(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        if !IS_SIZE {
            return Err(Error::invalid_type(Unexpected::Str(text), &self));
        }
        self.check(parse(text, SIZES), Unexpected::Str(text))
    }
}

/// A whole number and one of `units`, with nothing or a space between them.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*size)
}

/// In microseconds.
const TIMES: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
];
const SIZES: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

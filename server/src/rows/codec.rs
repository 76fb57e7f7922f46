//! The primitives that values are made of.

use std::ops::RangeInclusive;

use serde_json::value::RawValue;

use super::Damaged;
use crate::model::UserId;

/// The version bytes that a value may have. Above them are those of sealed values.
const VERSIONS: RangeInclusive<u8> = 1..=0x7f;

/// Writes a value, its version byte first.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn sized(format: u32, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(u8::try_from(format).expect("a store format is a small number"));
        Self(bytes)
    }

    pub(super) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn number(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn small(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn raw(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn text(self, value: &str) -> Self {
        self.blob(value.as_bytes())
    }

    pub(super) fn blob(self, value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).expect("a request body is far below 4 GiB");
        self.small(length).raw(value)
    }

    pub(super) fn optional_text(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.byte(1).text(value),
            None => self.byte(0),
        }
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a value to its end.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Damaged> {
        match bytes.split_first() {
            Some((version, rest)) if VERSIONS.contains(version) => Ok(Self(rest)),
            _ => Err(Damaged),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Damaged> {
        self.raw().map(|[byte]: [u8; 1]| byte)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Damaged> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damaged),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, Damaged> {
        self.raw().map(u64::from_be_bytes)
    }

    pub(super) fn small(&mut self) -> Result<u32, Damaged> {
        self.raw().map(u32::from_be_bytes)
    }

    pub(super) fn raw<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N).map(|bytes| bytes.try_into().expect("exactly N bytes were taken"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.blob()?).map_err(|_| Damaged)
    }

    pub(super) fn blob(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.small()?;
        self.take(usize::try_from(length).map_err(|_| Damaged)?)
    }

    pub(super) fn user(&mut self) -> Result<UserId, Damaged> {
        UserId::parse(self.text()?).map_err(|_| Damaged)
    }

    pub(super) fn json(&mut self) -> Result<Box<RawValue>, Damaged> {
        RawValue::from_string(self.text()?.to_owned()).map_err(|_| Damaged)
    }

    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Damaged> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// All bytes are read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end<T>(self, value: T) -> Result<T, Damaged> {
        if self.is_empty() { Ok(value) } else { Err(Damaged) }
    }
}

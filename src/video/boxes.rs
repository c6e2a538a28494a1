//! The boxes an MP4 file is made of: finding the movie box, and reading fields that cannot run past their box.
//!
//! Everything a box says about sizes and counts is checked against the bytes that are there before it is believed.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use crate::{Error, Result};

/// Bytes of one box, read from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `count` bytes.
    ///
    /// # Errors
    /// If the box ends before.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, tail) =
            self.0.split_at_checked(count).ok_or_else(|| Error::input("a box ends inside a field"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// The version of a full box; its flags are skipped.
    pub fn version(&mut self) -> Result<u8> {
        Ok(self.u32()?.to_be_bytes()[0])
    }

    /// A number of 32 bits in version 0 of a box, of 64 in version 1.
    pub fn sized(&mut self, version: u8) -> Result<u64> {
        if version == 0 { Ok(self.u32()?.into()) } else { self.u64() }
    }

    /// A count of entries of `size` bytes, all of which are there.
    pub fn entries(&mut self, size: usize) -> Result<usize> {
        let count = self.u32()? as usize;
        if count > self.0.len() / size {
            return Err(Error::input(format!("a box of {} bytes claims {count} entries", self.0.len())));
        }
        Ok(count)
    }

    /// The next box inside this one, and its type; none at the end.
    pub fn next_box(&mut self) -> Result<Option<([u8; 4], Fields<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let short = u64::from(self.u32()?);
        let kind = self.array()?;
        let body = match short {
            0 => self.0.len() as u64,
            1 => self.u64()?.checked_sub(16).ok_or_else(|| Error::input("a box smaller than its head"))?,
            _ => short.checked_sub(8).ok_or_else(|| Error::input("a box smaller than its head"))?,
        };
        let body = usize::try_from(body).map_err(|_| Error::input("a box larger than its file"))?;
        let name = kind.escape_ascii();
        let content =
            self.take(body).map_err(|_| Error::input(format!("box `{name}` ends after what holds it")))?;
        Ok(Some((kind, Fields(content))))
    }

    /// The first box of a type.
    pub fn find(mut self, wanted: &[u8; 4]) -> Result<Option<Fields<'a>>> {
        while let Some((kind, content)) = self.next_box()? {
            if kind == *wanted {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    /// The first box of a type that must be there.
    ///
    /// # Errors
    /// If it is not.
    pub fn need(self, wanted: &[u8; 4]) -> Result<Fields<'a>> {
        self.find(wanted)?.ok_or_else(|| Error::input(format!("there is no `{}` box", wanted.escape_ascii())))
    }
}

/// The content of a file's movie box (`moov`), wherever it stands.
///
/// # Errors
/// If the file cannot be read, is no MP4 file, or ends before the box does.
pub(super) fn movie(file: &mut File, length: u64) -> Result<Vec<u8>> {
    let broken = |e: std::io::Error| Error::input(format!("cannot be read: {e}"));
    let mut at = 0;
    while at + 8 <= length {
        let mut head = [0; 16];
        let some = head.len().min((length - at) as usize);
        file.seek(SeekFrom::Start(at)).map_err(broken)?;
        file.read_exact(&mut head[..some]).map_err(broken)?;
        let mut fields = Fields(&head[..some]);
        let (short, kind) = (u64::from(fields.u32()?), fields.take(4)?);
        if at == 0 && !matches!(kind, b"ftyp" | b"moov" | b"free" | b"skip" | b"wide" | b"mdat" | b"styp") {
            return Err(Error::input("is no MP4 file"));
        }
        let (head, size) = match short {
            0 => (8, length - at),
            1 => (16, fields.u64()?),
            _ => (8, short),
        };
        let name = kind.escape_ascii();
        if size < head || size > length - at {
            return Err(Error::input(format!(
                "is cut short or broken: box `{name}` at byte {at} claims {size} of the file's {length} bytes"
            )));
        }
        if kind == b"moov" {
            let mut content = vec![0; (size - head) as usize];
            file.seek(SeekFrom::Start(at + head)).map_err(broken)?;
            file.read_exact(&mut content).map_err(broken)?;
            return Ok(content);
        }
        at += size;
    }
    Err(Error::input("is cut short, or no MP4 file: there is no `moov` box"))
}

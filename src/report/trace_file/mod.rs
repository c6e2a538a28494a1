//! Recordings of episodes as MCAP files (<https://mcap.dev/spec>), which open in Foxglove and in rerun.
//!
//! Messages are Protocol Buffers: Foxglove reads them and JSON, rerun's loader reads them alone. Numbers have a schema
//! with a double for each component, so that `/episode_0042/observation/state.x_px` is a line in a plot; pictures
//! are PNG in `foxglove.CompressedImage`, lines of text `foxglove.Log`. Times are simulated, and nothing in a file
//! knows of clocks or hosts: equal recordings are equal bytes.

mod schema;
mod wire;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use mcap::records::{MessageHeader, Metadata};
use mcap::{McapError, WriteOptions, Writer};

use self::schema::{Kind, Schema};
use self::wire::Message;
use crate::image::Image;
use crate::{Error, Result};

/// The last second a trace can hold: readers count nanoseconds in 63 bits.
const LAST_SECOND: f64 = 9.2e9;

/// One recording in the making. Until [`finish`](Self::finish) it lies in `<path>.tmp`; dropped before, it leaves
/// nothing.
pub struct TraceWriter {
    // Before `unfinished`, so that the file is closed when its name goes.
    writer: Writer<BufWriter<File>>,
    unfinished: Unfinished,
    /// Topics that are taken, with the numbers of their channels.
    topics: BTreeMap<String, u16>,
    /// Names of schemas that are taken, with what defines them.
    schemas: BTreeMap<String, Vec<u8>>,
}

/// A topic of vectors; of the writer that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumbersChannel {
    id: u16,
    components: usize,
}

/// A topic of chunks, arrays of `[steps, components]`; of the writer that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunksChannel {
    id: u16,
    components: usize,
}

/// A topic of pictures; of the writer that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PicturesChannel {
    id: u16,
}

/// A topic of lines of text; of the writer that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextChannel {
    id: u16,
}

impl TraceWriter {
    /// Begins a recording that will be named `path`; one that is there stays until [`finish`](Self::finish).
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn create(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::input(format!("{} is a folder; name a file for the trace", path.display())));
        }
        let unfinished = Unfinished::beside(path);
        let file = File::create(&unfinished.part).map_err(|e| cannot_write(path, e))?;
        let options = WriteOptions::new().library(concat!("flowgpu ", env!("CARGO_PKG_VERSION")));
        let writer = options.create(BufWriter::new(file)).map_err(|e| refused(path, e))?;
        Ok(Self { writer, unfinished, topics: BTreeMap::new(), schemas: BTreeMap::new() })
    }

    /// A topic of vectors with a name for each component, as `x (px)`. Fields of messages are letters, digits and
    /// underscores (`x_px`); the channel's metadata has the whole name under the field's.
    ///
    /// # Errors
    /// If the topic is taken or the file cannot be written.
    pub fn numbers(&mut self, topic: &str, names: &[&str]) -> Result<NumbersChannel> {
        let id = self.channel_of_components(topic, Kind::Double, names)?;
        Ok(NumbersChannel { id, components: names.len() })
    }

    /// A topic of chunks: a message has an array over the steps for each component, named as in
    /// [`numbers`](Self::numbers).
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub fn chunks(&mut self, topic: &str, names: &[&str]) -> Result<ChunksChannel> {
        let id = self.channel_of_components(topic, Kind::Floats, names)?;
        Ok(ChunksChannel { id, components: names.len() })
    }

    /// A topic of pictures.
    ///
    /// # Errors
    /// If the topic is taken or the file cannot be written.
    pub fn pictures(&mut self, topic: &str) -> Result<PicturesChannel> {
        let id = self.channel(topic, &schema::compressed_image(), &BTreeMap::new())?;
        Ok(PicturesChannel { id })
    }

    /// A topic of lines of text.
    ///
    /// # Errors
    /// If the topic is taken or the file cannot be written.
    pub fn text(&mut self, topic: &str) -> Result<TextChannel> {
        let id = self.channel(topic, &schema::log(), &BTreeMap::new())?;
        Ok(TextChannel { id })
    }

    /// Writes one number for each component. What is not finite is kept as it is.
    ///
    /// # Errors
    /// If there are more or fewer numbers, the time is negative or not finite, or the file cannot be written.
    pub fn write_numbers(&mut self, channel: NumbersChannel, seconds: f64, values: &[f64]) -> Result<()> {
        if values.len() != channel.components {
            return Err(self.misfit(channel.id, &format!("{} numbers", values.len()), channel.components));
        }
        let message = (1..)
            .zip(values)
            .fold(Message::default(), |message, (field, &value)| message.double(field, value));
        self.write(channel.id, seconds, message)
    }

    /// Writes a chunk `values[step * components + component]` of so many steps.
    ///
    /// # Errors
    /// If the values are not steps times components, the time is negative or not finite, or the file cannot be
    /// written.
    pub fn write_chunk(
        &mut self,
        channel: ChunksChannel,
        seconds: f64,
        steps: usize,
        values: &[f32],
    ) -> Result<()> {
        let components = channel.components;
        if values.len() != steps * components {
            let what = format!("{} numbers in {steps} steps", values.len());
            return Err(self.misfit(channel.id, &what, components));
        }
        let message = (1..).zip(0..components).fold(Message::default(), |message, (field, component)| {
            message.floats(field, values.iter().skip(component).step_by(components).copied())
        });
        self.write(channel.id, seconds, message)
    }

    /// Writes a picture, as PNG: every pixel is kept.
    ///
    /// # Errors
    /// If the picture's sizes do not fit its pixels, the time is negative or not finite, or the file cannot be
    /// written.
    pub fn write_picture(&mut self, channel: PicturesChannel, seconds: f64, picture: &Image) -> Result<()> {
        let png = picture.to_png().map_err(|e| e.at(self.topic(channel.id)))?;
        let stamp = timestamp(self.nanoseconds(channel.id, seconds)?);
        let message = Message::default().message(1, &stamp).bytes(2, &png).text(3, "png");
        self.write(channel.id, seconds, message)
    }

    /// Writes a line of text, of level INFO.
    ///
    /// # Errors
    /// If the time is negative or not finite, or the file cannot be written.
    pub fn write_text(&mut self, channel: TextChannel, seconds: f64, text: &str) -> Result<()> {
        const INFO: u64 = 2;
        let stamp = timestamp(self.nanoseconds(channel.id, seconds)?);
        let message = Message::default().message(1, &stamp).integer(2, INFO).text(3, text);
        self.write(channel.id, seconds, message)
    }

    /// Writes what holds for a whole run or episode, as a metadata record. Readers find records by name: give each
    /// its own.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn metadata(&mut self, name: &str, values: &[(&str, &str)]) -> Result<()> {
        let metadata = values.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let record = Metadata { name: name.to_owned(), metadata };
        self.writer.write_metadata(&record).map_err(|e| refused(&self.unfinished.path, e))
    }

    /// Writes the indexes, waits until the disk has the file, and gives it its name.
    ///
    /// # Errors
    /// If the file cannot be written or named; nothing is left of it then.
    pub fn finish(self) -> Result<()> {
        let Self { mut writer, unfinished, .. } = self;
        writer.finish().map_err(|e| refused(&unfinished.path, e))?;
        let flushed = writer.into_inner().into_inner().map_err(|e| e.into_error());
        flushed.and_then(|file| file.sync_all()).map_err(|e| cannot_write(&unfinished.path, e))?;
        fs::rename(&unfinished.part, &unfinished.path).map_err(|e| cannot_write(&unfinished.path, e))
    }

    fn channel_of_components(&mut self, topic: &str, kind: Kind, names: &[&str]) -> Result<u16> {
        let fields = schema::field_names(names);
        let schema = self.schema_of_components(topic, kind, &fields);
        let metadata = fields.into_iter().zip(names.iter().map(|&name| name.to_owned())).collect();
        let id = self.channel(topic, &schema, &metadata)?;
        self.schemas.insert(schema.name, schema.data);
        Ok(id)
    }

    /// Episodes share a schema; a name stands for one schema only, because readers look types up by it.
    fn schema_of_components(&self, topic: &str, kind: Kind, fields: &[String]) -> Schema {
        let type_name = schema::type_name(topic);
        let mut number = 1;
        loop {
            let schema = schema::of_components(&schema::numbered(&type_name, number), kind, fields);
            if self.schemas.get(&schema.name).is_none_or(|data| *data == schema.data) {
                return schema;
            }
            number += 1;
        }
    }

    fn channel(&mut self, topic: &str, schema: &Schema, metadata: &BTreeMap<String, String>) -> Result<u16> {
        if self.topics.contains_key(topic) {
            return Err(Error::failure(format!(
                "the trace has a topic {topic} already: give each its own name"
            )));
        }
        let known = self.writer.add_schema(&schema.name, "protobuf", &schema.data);
        let id = known.and_then(|schema| self.writer.add_channel(schema, topic, "protobuf", metadata));
        let id = id.map_err(|e| refused(&self.unfinished.path, e))?;
        self.topics.insert(topic.to_owned(), id);
        Ok(id)
    }

    fn write(&mut self, channel: u16, seconds: f64, message: Message) -> Result<()> {
        let time = self.nanoseconds(channel, seconds)?;
        let header = MessageHeader { channel_id: channel, sequence: 0, log_time: time, publish_time: time };
        let written = self.writer.write_to_known_channel(&header, &message.into_bytes());
        written.map_err(|e| refused(&self.unfinished.path, e))
    }

    fn nanoseconds(&self, channel: u16, seconds: f64) -> Result<u64> {
        if (0.0..=LAST_SECOND).contains(&seconds) {
            return Ok((seconds * 1e9).round() as u64);
        }
        let topic = self.topic(channel);
        Err(Error::failure(format!(
            "{topic}: a trace's times are seconds from 0 to {LAST_SECOND:e}, not {seconds}"
        )))
    }

    fn misfit(&self, channel: u16, what: &str, components: usize) -> Error {
        Error::failure(format!("{}: {what} for {components} components", self.topic(channel)))
    }

    /// A channel's topic, for an error.
    fn topic(&self, channel: u16) -> &str {
        let named = self.topics.iter().find(|&(_, id)| *id == channel);
        named.map_or("another trace's topic", |(topic, _)| topic)
    }
}

/// A `google.protobuf.Timestamp`.
fn timestamp(nanoseconds: u64) -> Message {
    const SECOND: u64 = 1_000_000_000;
    Message::default().integer(1, nanoseconds / SECOND).integer(2, nanoseconds % SECOND)
}

/// A file under another name until it is whole; removed if it never is.
struct Unfinished {
    path: PathBuf,
    part: PathBuf,
}

impl Unfinished {
    fn beside(path: &Path) -> Self {
        let mut part = path.as_os_str().to_owned();
        part.push(".tmp");
        Self { path: path.to_owned(), part: part.into() }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Renamed if it was finished; what cannot be removed is not worth another error.
        let _ = fs::remove_file(&self.part);
    }
}

fn cannot_write(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::failure(format!("cannot write {}: {cause}", path.display()))
}

fn refused(path: &Path, cause: McapError) -> Error {
    match cause {
        // Its own sentence does not say why.
        McapError::Io(cause) => cannot_write(path, cause),
        McapError::TooManyChannels => {
            cannot_write(path, "a trace holds at most 65,535 topics; record fewer episodes")
        }
        cause => cannot_write(path, cause),
    }
}

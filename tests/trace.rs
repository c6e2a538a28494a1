//! A recording of episodes, as someone meets it who opens it in another program.
#![cfg(feature = "report")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use flowgpu::image::Image;
use flowgpu::report::trace_file::TraceWriter;
use mcap::{Message, MessageStream, Summary};

/// A field of a message by its number, as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
enum Field {
    Integer(u64),
    Double(f64),
    Bytes(Vec<u8>),
}

impl Field {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("{other:?} is no text, array or message"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("UTF-8")
    }

    /// A packed `repeated float`.
    fn floats(&self) -> Vec<f32> {
        self.bytes().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect()
    }
}

/// Reads Protocol Buffers without knowing what they are.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).expect("an end") + 1;
        let (number, rest) = bytes.split_at(length);
        *bytes = rest;
        number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Integer(varint(&mut bytes)),
            kind => {
                let length = if kind == 1 { 8 } else { varint(&mut bytes) as usize };
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                match kind {
                    1 => Field::Double(f64::from_le_bytes(value.try_into().expect("eight bytes"))),
                    2 => Field::Bytes(value.to_vec()),
                    kind => panic!("wire type {kind}"),
                }
            }
        };
        found.push((tag >> 3, field));
    }
    found
}

/// All fields of that number.
fn all(message: &[u8], number: u64) -> Vec<Field> {
    fields(message).into_iter().filter(|(n, _)| *n == number).map(|(_, field)| field).collect()
}

/// A message's fields by name: what the schema in the file calls them.
fn named(message: &Message) -> BTreeMap<String, Field> {
    let schema = message.channel.schema.as_ref().expect("a schema");
    assert_eq!(
        (schema.encoding.as_str(), message.channel.message_encoding.as_str()),
        ("protobuf", "protobuf")
    );
    // FileDescriptorSet.file, FileDescriptorProto.message_type and .package, DescriptorProto.name and .field.
    let mut names = BTreeMap::new();
    for file in all(&schema.data, 1) {
        let package = all(file.bytes(), 2)[0].text();
        for kind in all(file.bytes(), 4) {
            if format!("{package}.{}", all(kind.bytes(), 1)[0].text()) == schema.name {
                for field in all(kind.bytes(), 2) {
                    let Field::Integer(number) = all(field.bytes(), 3)[0] else { panic!("a number") };
                    names.insert(number, all(field.bytes(), 1)[0].text());
                }
            }
        }
    }
    fields(&message.data).into_iter().map(|(number, field)| (names[&number].clone(), field)).collect()
}

fn messages<'a>(file: &'a [u8], topic: &str) -> Vec<Message<'a>> {
    let all = MessageStream::new(file).expect("an MCAP file").map(|message| message.expect("a message"));
    all.filter(|message| message.channel.topic == topic).collect()
}

/// What a plot of `topic.field` shows: nanoseconds and values.
fn plot(file: &[u8], topic: &str, field: &str) -> Vec<(u64, Field)> {
    messages(file, topic).iter().map(|message| (message.log_time, named(message)[field].clone())).collect()
}

fn picture(shade: u8) -> Image {
    Image { width: 5, height: 3, pixels: (0..45).map(|v| v * 3 + shade).collect() }
}

const STATE: [&str; 2] = ["x (px)", "y (px)"];

/// Two episodes of three steps at 20 a second.
fn record(path: &Path) {
    let mut trace = TraceWriter::create(path).expect("a new file");
    trace.metadata("run", &[("environment", "pursuit"), ("policy", "weights/pursuit")]).expect("writes");
    for episode in 0..2 {
        let named = |what: &str| format!("/episode_{episode:04}/{what}");
        let state = trace.numbers(&named("observation/state"), &STATE).expect("a topic");
        let chunk = trace.chunks(&named("chunk"), &STATE).expect("a topic");
        let camera = trace.pictures(&named("camera")).expect("a topic");
        let log = trace.text(&named("log")).expect("a topic");
        let seed = (42 + episode).to_string();
        trace.metadata(&named("episode"), &[("seed", &seed)]).expect("writes");
        for step in 0..3_u8 {
            let seconds = f64::from(step) / 20.0;
            let place = f64::from(step) + 10.0 * f64::from(episode);
            trace.write_numbers(state, seconds, &[place, -place]).expect("writes");
            trace.write_picture(camera, seconds, &picture(step)).expect("writes");
        }
        trace.write_chunk(chunk, 0.0, 3, &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5]).expect("writes");
        trace.write_text(log, 0.1, "captured").expect("writes");
    }
    trace.finish().expect("a whole file");
}

#[test]
fn everything_recorded_is_read_back_under_its_name_and_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace.mcap");
    record(&path);
    let file = fs::read(&path).expect("the file");

    let x = plot(&file, "/episode_0001/observation/state", "x_px");
    let times = [0, 50_000_000, 100_000_000];
    assert_eq!(x, times.into_iter().zip([10.0, 11.0, 12.0].map(Field::Double)).collect::<Vec<_>>());
    let y = plot(&file, "/episode_0000/observation/state", "y_px");
    assert_eq!(y[2], (100_000_000, Field::Double(-2.0)));

    let chunk = plot(&file, "/episode_0000/chunk", "y_px");
    assert_eq!(
        chunk.iter().map(|(time, y)| (*time, y.floats())).collect::<Vec<_>>(),
        [(0, vec![0.5, 1.5, 2.5])]
    );

    let shown = messages(&file, "/episode_0001/camera");
    assert_eq!(shown.len(), 3);
    for (step, message) in (0..).zip(&shown) {
        let fields = named(message);
        assert_eq!(Image::from_png(fields["data"].bytes()).expect("a PNG"), picture(step));
        assert_eq!(fields["format"].text(), "png");
        let stamp = [(1, Field::Integer(0)), (2, Field::Integer(u64::from(step) * 50_000_000))];
        assert_eq!(self::fields(fields["timestamp"].bytes()), stamp);
    }
    let said = plot(&file, "/episode_0001/log", "message");
    assert_eq!((said.len(), said[0].0, said[0].1.text()), (1, 100_000_000, "captured".to_owned()));
}

#[test]
fn a_reader_finds_topics_names_and_metadata_without_reading_the_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace.mcap");
    record(&path);
    let file = fs::read(&path).expect("the file");
    let summary = Summary::read(&file).expect("a file").expect("a summary");

    let topics: BTreeMap<_, _> = summary.channels.values().map(|c| (c.topic.as_str(), c)).collect();
    assert_eq!(topics.len(), 8);
    let state = topics["/episode_0001/observation/state"];
    let name = |field: &str| state.metadata[field].as_str();
    assert_eq!((state.metadata.len(), name("x_px"), name("y_px")), (2, "x (px)", "y (px)"));
    // Episodes share schemas: one for states, chunks, pictures and lines each.
    assert_eq!(summary.schemas.len(), 4);
    assert_eq!(state.schema, topics["/episode_0000/observation/state"].schema);

    let statistics = summary.stats.as_ref().expect("statistics");
    assert_eq!((statistics.message_count, statistics.message_end_time), (16, 100_000_000));
    let indexed: usize = summary
        .chunk_indexes
        .iter()
        .map(|index| summary.stream_chunk(&file, index).expect("a chunk").count())
        .sum();
    assert_eq!(indexed, 16, "every message lies in an indexed chunk");

    let records: Vec<_> = summary
        .metadata_indexes
        .iter()
        .map(|index| mcap::read::metadata(&file, index).expect("a record"))
        .collect();
    assert_eq!(records[0].name, "run");
    assert_eq!(records[0].metadata["policy"], "weights/pursuit");
    assert_eq!(
        (records[2].name.as_str(), records[2].metadata["seed"].as_str()),
        ("/episode_0001/episode", "43")
    );
}

#[test]
fn equal_recordings_are_equal_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("first.mcap"), folder.path().join("second.mcap"));
    record(&first);
    record(&second);
    assert!(fs::read(first).expect("a file") == fs::read(second).expect("a file"));
}

#[test]
fn numbers_that_are_not_finite_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace.mcap");
    let mut trace = TraceWriter::create(&path).expect("a new file");
    let action = trace.numbers("/action", &["torque"]).expect("a topic");
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
    for (step, value) in (0..).zip(values) {
        trace.write_numbers(action, f64::from(step), &[value]).expect("writes");
    }
    trace.finish().expect("a whole file");
    let file = fs::read(&path).expect("the file");
    for ((_, read), value) in plot(&file, "/action", "torque").iter().zip(values) {
        let Field::Double(read) = read else { panic!("{read:?} is no double") };
        assert_eq!(read.to_bits(), value.to_bits());
    }
    assert_eq!(messages(&file, "/action").len(), values.len());
}

#[test]
fn components_of_any_name_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace.mcap");
    let mut trace = TraceWriter::create(&path).expect("a new file");
    let names = ["θ", "", "2nd joint (rad)", "x px", "x (px)"];
    let state = trace.numbers("/state", &names).expect("a topic");
    trace.write_numbers(state, 0.0, &[1.0, 2.0, 3.0, 4.0, 5.0]).expect("writes");
    // The same last part of a topic, other components: another schema, because readers look types up by name.
    let goal = trace.numbers("/goal/state", &["x"]).expect("a topic");
    trace.write_numbers(goal, 0.0, &[6.0]).expect("writes");
    trace.finish().expect("a whole file");

    let file = fs::read(&path).expect("the file");
    let read = messages(&file, "/state");
    let fields = named(&read[0]);
    for (field, name, value) in [
        ("value", "θ", 1.0),
        ("value_2", "", 2.0),
        ("value_2nd_joint_rad", "2nd joint (rad)", 3.0),
        ("x_px", "x px", 4.0),
        ("x_px_2", "x (px)", 5.0),
    ] {
        assert_eq!(fields[field], Field::Double(value), "{name}");
        assert_eq!(read[0].channel.metadata[field], name);
    }
    let kind =
        |topic: &str| messages(&file, topic)[0].channel.schema.as_ref().expect("a schema").name.clone();
    assert_eq!((kind("/state").as_str(), kind("/goal/state").as_str()), ("flowgpu.State", "flowgpu.State_2"));
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = |path: &Path| TraceWriter::create(path).err().expect("an error").to_string();
    let nowhere = folder.path().join("missing/trace.mcap");
    assert!(message(&nowhere).starts_with(&format!("cannot write {}: ", nowhere.display())));
    assert_eq!(
        message(folder.path()),
        format!("{} is a folder; name a file for the trace", folder.path().display())
    );
}

#[test]
fn a_recording_that_is_given_up_leaves_nothing_and_spares_the_last_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace.mcap");
    let begin = || {
        let mut trace = TraceWriter::create(&path).expect("a new file");
        let log = trace.text("/log").expect("a topic");
        trace.write_text(log, 0.0, "begun").expect("writes");
        trace
    };
    drop(begin());
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);

    record(&path);
    let whole = fs::read(&path).expect("the file");
    drop(begin());
    assert!(fs::read(&path).expect("the file") == whole);
    begin().finish().expect("a whole file");
    assert_eq!(messages(&fs::read(&path).expect("the file"), "/log").len(), 1);
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
}

#[test]
fn what_does_not_fit_a_topic_is_an_error_that_names_the_topic() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trace = TraceWriter::create(&folder.path().join("trace.mcap")).expect("a new file");
    let state = trace.numbers("/state", &STATE).expect("a topic");
    let chunk = trace.chunks("/chunk", &STATE).expect("a topic");
    let camera = trace.pictures("/camera").expect("a topic");

    let said = |result: flowgpu::Result<()>| result.expect_err("an error").to_string();
    assert_eq!(said(trace.write_numbers(state, 0.0, &[1.0])), "/state: 1 numbers for 2 components");
    assert_eq!(
        said(trace.write_chunk(chunk, 0.0, 2, &[0.0; 3])),
        "/chunk: 3 numbers in 2 steps for 2 components"
    );
    let late = said(trace.write_numbers(state, f64::NAN, &[0.0; 2]));
    assert_eq!(late, "/state: a trace's times are seconds from 0 to 9.2e9, not NaN");
    assert!(said(trace.write_numbers(state, -0.1, &[0.0; 2])).ends_with("not -0.1"));
    let broken = Image { width: 4, height: 4, pixels: vec![0; 3] };
    assert!(said(trace.write_picture(camera, 0.0, &broken)).starts_with("/camera: cannot encode a PNG"));
    let twice = trace.numbers("/camera", &STATE).expect_err("an error").to_string();
    assert_eq!(twice, "the trace has a topic /camera already: give each its own name");
}

//! A reader of OTLP profiles that takes nothing that the protocol forbids, over the protocol's own types.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Debug;

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::profiles::v1development::{Profile, ProfilesDictionary, Sample};
use prost::Message;

/// One profile as it was meant.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) kind: (String, String),
    pub(crate) period: ((String, String), i64),
    pub(crate) begin: u64,
    pub(crate) duration: u64,
    pub(crate) comments: Vec<String>,
    pub(crate) samples: Vec<ReadSample>,
    pub(crate) mapped_files: BTreeSet<String>,
}

/// One sample as it was meant.
#[derive(Debug)]
pub(crate) struct ReadSample {
    /// Function names, leaf first.
    pub(crate) stack: Vec<String>,
    pub(crate) value: i64,
    /// Trace and span in hex.
    pub(crate) link: Option<(String, String)>,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Which entries of each table are referred to.
#[derive(Default)]
struct Used {
    mappings: HashSet<i32>,
    locations: HashSet<i32>,
    functions: HashSet<i32>,
    links: HashSet<i32>,
    strings: HashSet<i32>,
    attributes: HashSet<i32>,
    stacks: HashSet<i32>,
}

/// Decodes a request of one profile; panics with the broken rule.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let request = ExportProfilesServiceRequest::decode(bytes).expect("an export request");
    assert_eq!(request.encode_to_vec(), bytes, "every field is known and in its place");
    let dictionary = request.dictionary.as_ref().expect("a dictionary");
    assert_zero_entries(dictionary);
    assert_no_duplicates(dictionary);
    assert_eq!(request.resource_profiles.len(), 1);
    let of_resource = &request.resource_profiles[0];
    assert_eq!(of_resource.scope_profiles.len(), 1);
    let of_scope = &of_resource.scope_profiles[0];
    let scope = of_scope.scope.as_ref().expect("a scope");
    assert_eq!((scope.name.as_str(), scope.version.is_empty()), ("spanprof", false));
    assert_eq!(of_scope.profiles.len(), 1);
    let mut resource = BTreeMap::new();
    for pair in &of_resource.resource.as_ref().expect("a resource").attributes {
        assert_eq!(pair.key_strindex, 0, "keys of the resource stand in place: readers lose the others");
        let Some(Value::StringValue(text)) = pair.value.as_ref().and_then(|value| value.value.clone()) else {
            panic!("a resource attribute is text in place: {pair:?}");
        };
        assert!(!pair.key.is_empty());
        assert!(resource.insert(pair.key.clone(), text).is_none(), "{} twice", pair.key);
    }
    let mut reader = Reader { dictionary, used: Used::default() };
    let read = reader.profile(&of_scope.profiles[0], resource);
    reader.assert_no_orphans();
    read
}

fn assert_zero_entries(dictionary: &ProfilesDictionary) {
    fn zero<T: Default + PartialEq + Debug>(table: &[T], name: &str) {
        assert_eq!(table.first(), Some(&T::default()), "{name}[0] is the zero value");
    }
    zero(&dictionary.mapping_table, "mapping_table");
    zero(&dictionary.location_table, "location_table");
    zero(&dictionary.function_table, "function_table");
    zero(&dictionary.string_table, "string_table");
    zero(&dictionary.attribute_table, "attribute_table");
    zero(&dictionary.stack_table, "stack_table");
    let link = &dictionary.link_table[0];
    assert_eq!((&link.trace_id[..], &link.span_id[..]), (&[0; 16][..], &[0; 8][..]));
}

fn assert_no_duplicates(dictionary: &ProfilesDictionary) {
    fn unique<T: Debug>(table: &[T], name: &str) {
        let distinct: HashSet<String> = table.iter().map(|entry| format!("{entry:?}")).collect();
        assert_eq!(distinct.len(), table.len(), "{name} holds an entry twice");
    }
    unique(&dictionary.mapping_table, "mapping_table");
    unique(&dictionary.location_table, "location_table");
    unique(&dictionary.function_table, "function_table");
    unique(&dictionary.link_table, "link_table");
    unique(&dictionary.string_table, "string_table");
    unique(&dictionary.attribute_table, "attribute_table");
    unique(&dictionary.stack_table, "stack_table");
}

struct Reader<'a> {
    dictionary: &'a ProfilesDictionary,
    used: Used,
}

impl Reader<'_> {
    fn profile(&mut self, profile: &Profile, resource: BTreeMap<String, String>) -> Read {
        assert!(profile.original_payload.is_empty() && profile.dropped_attributes_count == 0);
        assert!(profile.profile_id.is_empty() || profile.profile_id.len() == 16);
        let mut kind = |value: &Option<_>| {
            let value: &opentelemetry_proto::tonic::profiles::v1development::ValueType =
                value.as_ref().expect("a value type");
            (self.string(value.type_strindex), self.string(value.unit_strindex))
        };
        let (sample_type, period_type) = (kind(&profile.sample_type), kind(&profile.period_type));
        let mut identities = HashSet::new();
        let samples = profile.samples.iter().map(|sample| {
            let mut attributes = sample.attribute_indices.clone();
            attributes.sort_unstable();
            let identity = (sample.stack_index, attributes, sample.link_index);
            assert!(identities.insert(identity), "a sample's identity is there twice: {sample:?}");
            self.sample(sample)
        });
        let samples = samples.collect();
        let mut comments = Vec::new();
        for index in &profile.attribute_indices {
            let (key, value) = self.attribute(*index);
            assert_eq!(key, "pprof.profile.comment");
            let Value::ArrayValue(lines) = value else { panic!("comments are an array") };
            comments.extend(lines.values.into_iter().map(|line| match line.value {
                Some(Value::StringValue(line)) => line,
                other => panic!("a comment is text: {other:?}"),
            }));
        }
        let mapped_files =
            self.used.mappings.iter().map(|index| &self.dictionary.mapping_table[*index as usize]);
        let names = mapped_files.map(|mapping| mapping.filename_strindex as usize);
        let mapped_files = names.map(|index| self.dictionary.string_table[index].clone()).collect();
        Read {
            resource,
            kind: sample_type,
            period: (period_type, profile.period),
            begin: profile.time_unix_nano,
            duration: profile.duration_nano,
            comments,
            samples,
            mapped_files,
        }
    }

    fn sample(&mut self, sample: &Sample) -> ReadSample {
        assert_eq!(sample.values.len(), 1, "one value");
        assert!(sample.timestamps_unix_nano.is_empty(), "and no timestamps");
        assert!(sample.values[0] > 0, "servers drop what is not above zero");
        assert_ne!(sample.stack_index, 0, "a sample without a stack is lost by some readers");
        self.used.stacks.insert(sample.stack_index);
        let stack = &self.dictionary.stack_table[sample.stack_index as usize];
        let mut names = Vec::new();
        for index in &stack.location_indices {
            assert_ne!(*index, 0, "the zero location means none");
            names.extend(self.location(*index));
        }
        assert!(stack.location_indices.len() <= 1000);
        let mut attributes = BTreeMap::new();
        for index in &sample.attribute_indices {
            let (key, value) = self.attribute(*index);
            let value = match value {
                Value::StringValue(text) => text,
                Value::IntValue(number) => number.to_string(),
                other => panic!("a label is text or a number: {other:?}"),
            };
            assert!(attributes.insert(key.clone(), value).is_none(), "{key} twice");
        }
        let link = (sample.link_index != 0).then(|| {
            self.used.links.insert(sample.link_index);
            let link = &self.dictionary.link_table[sample.link_index as usize];
            assert_eq!((link.trace_id.len(), link.span_id.len()), (16, 8));
            (hex(&link.trace_id), hex(&link.span_id))
        });
        ReadSample { stack: names, value: sample.values[0], link, attributes }
    }

    fn location(&mut self, index: i32) -> Vec<String> {
        let location = &self.dictionary.location_table[index as usize];
        if self.used.locations.insert(index) {
            for index in &location.attribute_indices {
                let (key, value) = self.attribute(*index);
                let known = ["native", "rust", "kernel", "jvm"];
                let Value::StringValue(value) = value else { panic!("{key} is text") };
                assert!(key == "profile.frame.type" && known.contains(&value.as_str()), "{key}={value}");
            }
            if location.mapping_index != 0 {
                self.mapping(location.mapping_index);
            }
        }
        assert!(!location.lines.is_empty(), "a location without a function is lost by some readers");
        let lines = location.lines.iter().map(|line| {
            assert_ne!(line.function_index, 0, "the zero function means none");
            assert!(line.line >= 0 && line.column >= 0);
            self.used.functions.insert(line.function_index);
            let function = &self.dictionary.function_table[line.function_index as usize];
            self.string(function.system_name_strindex);
            self.string(function.filename_strindex);
            let name = self.string(function.name_strindex);
            assert!(!name.is_empty(), "a frame without a name is left out by some readers");
            name
        });
        lines.collect()
    }

    fn mapping(&mut self, index: i32) {
        if !self.used.mappings.insert(index) {
            return;
        }
        let mapping = &self.dictionary.mapping_table[index as usize];
        assert!(mapping.memory_start < mapping.memory_limit, "{mapping:?}");
        self.string(mapping.filename_strindex);
        let keys: Vec<_> = mapping.attribute_indices.iter().map(|index| self.attribute(*index).0).collect();
        assert!(keys.iter().any(|key| key.starts_with("process.executable.build_id.")), "{keys:?}");
    }

    fn attribute(&mut self, index: i32) -> (String, Value) {
        assert_ne!(index, 0, "the zero attribute means none");
        self.used.attributes.insert(index);
        let attribute = &self.dictionary.attribute_table[index as usize];
        self.string(attribute.unit_strindex);
        let key = self.string(attribute.key_strindex);
        assert!(!key.is_empty());
        (key, attribute.value.clone().and_then(|value| value.value).expect("an attribute has a value"))
    }

    fn string(&mut self, index: i32) -> String {
        self.used.strings.insert(index);
        self.dictionary.string_table[index as usize].clone()
    }

    fn assert_no_orphans(&self) {
        let orphans = |used: &HashSet<i32>, length: usize, name: &str| {
            let unused: Vec<_> = (1..length as i32).filter(|index| !used.contains(index)).collect();
            assert!(unused.is_empty(), "nobody refers to {unused:?} of {name}");
        };
        let dictionary = self.dictionary;
        orphans(&self.used.mappings, dictionary.mapping_table.len(), "mapping_table");
        orphans(&self.used.locations, dictionary.location_table.len(), "location_table");
        orphans(&self.used.functions, dictionary.function_table.len(), "function_table");
        orphans(&self.used.links, dictionary.link_table.len(), "link_table");
        orphans(&self.used.strings, dictionary.string_table.len(), "string_table");
        orphans(&self.used.attributes, dictionary.attribute_table.len(), "attribute_table");
        orphans(&self.used.stacks, dictionary.stack_table.len(), "stack_table");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

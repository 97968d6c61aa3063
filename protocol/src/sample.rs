//! What a machine did during five seconds, as its heartbeats tell it.

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Seconds of one sample.
pub const SAMPLE_SECONDS: u32 = 5;

/// Samples of one heartbeat: some more than pass between two, for one that was late.
pub const MAX_SAMPLES: usize = 16;

macro_rules! sample {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// One sample. On the wire a list of numbers in the order of the fields, for it is sent all the time:
        /// `nil` is what the machine does not know, and later versions have more behind.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Sample {
            /// How many samples before the one of the heartbeat's `time_us` it is: the five seconds
            /// since 1970 by the machine's clock, rounded.
            pub ago: u64,
            $($(#[$about])* pub $name: Option<u64>,)*
        }

        impl Serialize for Sample {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut list = serializer.serialize_seq(Some(1 $(+ { let _ = self.$name; 1 })*))?;
                list.serialize_element(&self.ago)?;
                $(list.serialize_element(&self.$name)?;)*
                list.end()
            }
        }

        impl<'de> Visitor<'de> for Numbers {
            type Value = Sample;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the numbers of a sample")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sample, A::Error> {
                let ago = list.next_element::<u64>()?.unwrap_or_default();
                let sample = Sample { ago, $($name: list.next_element()?.flatten(),)* };
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(sample)
            }
        }
    };
}

struct Numbers;

sample! {
    /// Processor time of programs, thousandths of all processors' time.
    cpu_user,
    /// Of the kernel, likewise.
    cpu_system,
    /// Waiting for disks, likewise.
    cpu_iowait,
    /// Taken by other virtual machines, likewise.
    cpu_steal,
    /// Load of one minute, hundredths.
    load,
    /// Memory that is not available, KiB.
    memory_used,
    /// Swap in use, KiB.
    swap_used,
    /// Read from disks, bytes per second.
    disk_read,
    /// Written to disks, bytes per second.
    disk_write,
    /// Received over networks (without the loopback), bytes per second.
    network_in,
    /// Sent, likewise.
    network_out,
    /// Time that some process had to wait for a processor, hundredths of a percent (PSI, 10 s).
    pressure_cpu,
    /// For memory, likewise.
    pressure_memory,
    /// For a disk, likewise.
    pressure_io,
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    #[test]
    fn shorter_and_longer_lists_are_samples_too() {
        let sample: Sample = decode(&encode(&[2_u64, 7]).expect("encodes")).expect("decodes");
        assert_eq!(sample, Sample { ago: 2, cpu_user: Some(7), ..Sample::default() });
        let longer: Vec<u64> = (0..40).collect();
        let sample: Sample = decode(&encode(&longer).expect("encodes")).expect("decodes");
        assert_eq!((sample.ago, sample.pressure_io), (0, Some(14)));
        let sample: Sample = decode(&encode::<[u64; 0]>(&[]).expect("encodes")).expect("decodes");
        assert_eq!(sample, Sample::default());
        assert!(decode::<Sample>(&encode(&["text"]).expect("encodes")).is_err());
    }

    #[test]
    fn sample_is_small() {
        let sample = Sample {
            ago: 2,
            cpu_user: Some(123),
            cpu_system: Some(45),
            cpu_iowait: Some(1),
            cpu_steal: Some(0),
            load: Some(123),
            memory_used: Some(7_000_000),
            swap_used: Some(0),
            disk_read: Some(0),
            disk_write: Some(40_000),
            network_in: Some(1200),
            network_out: Some(900),
            pressure_cpu: Some(12),
            pressure_memory: Some(0),
            pressure_io: Some(3),
        };
        let bytes = encode(&sample).expect("encodes");
        assert!(bytes.len() <= 32, "{} bytes", bytes.len());
        assert_eq!(decode::<Sample>(&bytes).expect("decodes"), sample);
    }
}

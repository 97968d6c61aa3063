//! The index of kept versions as a crash may have left it: a torn last line never happened, what is
//! written behind what was whole is found again, no number is given twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_agent::versions::index::{Index, line};

fuzz_target!(|data: &[u8]| {
    let Ok(index) = Index::parse(data) else { return };
    let whole = usize::try_from(index.whole).expect("fits");
    assert!(whole <= data.len() && !data[whole..].contains(&b'\n'));
    assert!(index.versions.iter().all(|version| version.id < index.next || version.id == u64::MAX));
    // Cut anywhere behind what is whole it says the same.
    let cut = Index::parse(&data[..whole]).expect("it was read before");
    assert_eq!((&cut.versions, cut.next), (&index.versions, index.next));
    let written = Index::write(&index.versions, index.next).expect("written");
    let again = Index::parse(&written).expect("read again");
    assert_eq!((&again.versions, again.next), (&index.versions, index.next));
    assert_eq!(again.whole as usize, written.len());
    if let Some(version) = index.versions.first() {
        let mut more = data[..whole].to_vec();
        more.extend(line(version).expect("written"));
        let more = Index::parse(&more).expect("read");
        assert_eq!(more.versions.len(), index.versions.len() + 1);
    }
});

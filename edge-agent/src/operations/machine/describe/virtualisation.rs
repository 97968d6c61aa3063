//! Whether the machine is one of iron, as systemd-detect-virt(1) finds it out.

use super::Root;

pub fn find(root: &Root) -> String {
    container(root).or_else(|| virtual_machine(root)).unwrap_or_default()
}

fn container(root: &Root) -> Option<String> {
    let said = root.read_line("run/systemd/container");
    if !said.is_empty() {
        return Some(said);
    }
    if root.exists("run/.containerenv") {
        return Some("podman".to_owned());
    }
    if root.exists(".dockerenv") {
        return Some("docker".to_owned());
    }
    let environment = root.read("proc/1/environ");
    let said = environment.split('\0').find_map(|entry| entry.strip_prefix("container="));
    if let Some(said) = said.filter(|said| !said.is_empty()) {
        return Some(said.to_owned());
    }
    root.read("proc/sys/kernel/osrelease")
        .to_lowercase()
        .contains("microsoft")
        .then(|| "wsl".to_owned())
}

fn virtual_machine(root: &Root) -> Option<String> {
    let dmi = ["sys_vendor", "product_name", "board_vendor", "bios_vendor"]
        .map(|name| root.read_line(&format!("sys/class/dmi/id/{name}")));
    let known = [
        ("KVM", "kvm"),
        ("QEMU", "kvm"),
        ("Amazon EC2", "amazon"),
        ("Google Compute Engine", "google"),
        ("VMware", "vmware"),
        ("VirtualBox", "oracle"),
        ("innotek", "oracle"),
        ("Xen", "xen"),
        ("Parallels", "parallels"),
        ("Hyper-V", "microsoft"),
        ("BHYVE", "bhyve"),
        ("Apple Virtualization", "apple"),
        ("OpenStack", "kvm"),
    ];
    let found = known.iter().find(|(word, _)| dmi.iter().any(|text| text.contains(word)));
    if let Some((_, name)) = found {
        return Some((*name).to_owned());
    }
    if dmi.iter().any(|text| text == "Microsoft Corporation")
        && dmi.iter().any(|it| it == "Virtual Machine")
    {
        return Some("microsoft".to_owned());
    }
    if root.exists("proc/xen") {
        return Some("xen".to_owned());
    }
    let processors = root.read("proc/cpuinfo");
    let flags = processors.lines().find(|line| line.starts_with("flags"));
    match flags {
        Some(flags) if flags.split(' ').any(|flag| flag == "hypervisor") => {
            Some("vm-other".to_owned())
        }
        // Processors that have the flag and do not show it are nobody's guests.
        Some(_) => Some("none".to_owned()),
        None => dmi.iter().any(|text| !text.is_empty()).then(|| "none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_with(files: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        find(&Root(folder.path().to_owned()))
    }

    #[test]
    fn kinds_are_known_by_what_they_show() {
        assert_eq!(find_with(&[("sys/class/dmi/id/sys_vendor", "QEMU\n")]), "kvm");
        assert_eq!(
            find_with(&[(".dockerenv", ""), ("sys/class/dmi/id/sys_vendor", "QEMU")]),
            "docker"
        );
        assert_eq!(find_with(&[("proc/1/environ", "A=b\0container=lxc\0")]), "lxc");
        let iron = [("sys/class/dmi/id/sys_vendor", "ACME"), ("proc/cpuinfo", "flags : fpu vme\n")];
        assert_eq!(find_with(&iron), "none");
        assert_eq!(find_with(&[("proc/cpuinfo", "flags : fpu hypervisor\n")]), "vm-other");
        assert_eq!(find_with(&[]), "");
    }
}

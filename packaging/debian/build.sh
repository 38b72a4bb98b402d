#!/bin/sh
# How do two Debian packages come out of two directories of binaries?
#
#   packaging/debian/build.sh BINARIES OUT [VERSION]
#
# Plain dpkg-deb: what is in a package stands here, line by line. COMPRESSION=none is for tests.
set -eu

main() {
    binaries=$(cd "$1" && pwd)
    mkdir -p "$2"
    out=$(cd "$2" && pwd)
    cd "$(dirname "$0")/../.."
    version=${3:-$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)}
    arch=$(dpkg --print-architecture)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT

    agent_files "$work/m2key-agent"
    pack m2key-agent
    authority_files "$work/m2key-authority"
    pack m2key-authority
}

agent_files() {
    root=$1
    program m2key-agent
    file packaging/systemd/m2key-agent.service usr/lib/systemd/system/m2key-agent.service
    file packaging/polkit/50-m2key-agent.rules usr/share/polkit-1/rules.d/50-m2key-agent.rules
    file packaging/udev/60-m2key-agent.rules usr/lib/udev/rules.d/60-m2key-agent.rules
    file packaging/debian/m2key-agent/default etc/default/m2key-agent
    documents m2key-agent
    file config/agent.full.toml usr/share/doc/m2key-agent/agent.full.toml
}

authority_files() {
    root=$1
    program m2key-authority
    program m2key-pki
    file packaging/systemd/m2key-authority.service usr/lib/systemd/system/m2key-authority.service
    file packaging/systemd/m2key-signer.service usr/lib/systemd/system/m2key-signer.service
    file packaging/debian/m2key-authority/default etc/default/m2key-authority
    documents m2key-authority
    file config/authority.full.toml usr/share/doc/m2key-authority/authority.full.toml
    file config/signer.full.toml usr/share/doc/m2key-authority/signer.full.toml
}

program() {
    mkdir -p "$root/usr/bin"
    install -m 755 "$binaries/$1" "$root/usr/bin/$1"
    strip --strip-unneeded "$root/usr/bin/$1"
}

file() {
    mkdir -p "$root/$(dirname "$2")"
    install -m 644 "$1" "$root/$2"
}

documents() {
    file LICENSE "usr/share/doc/$1/copyright"
    file docs/OPERATIONS.md "usr/share/doc/$1/OPERATIONS.md"
}

# The libraries that the programs of this package need, at the versions they were linked against.
libraries() {
    mkdir -p "$work/shlibs/debian"
    printf 'Source: m2key\n\nPackage: %s\nArchitecture: any\n' "$name" >"$work/shlibs/debian/control"
    (cd "$work/shlibs" && dpkg-shlibdeps -O "$work/$name"/usr/bin/*) | sed -n 's/^shlibs:Depends=//p'
}

pack() {
    name=$1
    from=packaging/debian/$name
    control=$work/$name/DEBIAN
    mkdir -p "$control"
    size=$(du -k -s "$work/$name" | cut -f 1)
    sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" \
        -e "s/@LIBRARIES@/$(libraries)/" "$from/control" >"$control/control"
    printf '/etc/default/%s\n' "$name" >"$control/conffiles"
    for script in preinst postinst prerm postrm; do
        [ ! -f "$from/$script" ] || install -m 755 "$from/$script" "$control/$script"
    done
    find "$work/$name" -type d -exec chmod 755 {} +
    # Every dpkg reads xz; the owner is root whoever builds.
    dpkg-deb --root-owner-group "-Z${COMPRESSION:-xz}" --build "$work/$name" "$out/${name}_${version}_$arch.deb"
}

main "$@"

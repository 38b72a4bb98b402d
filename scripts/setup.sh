#!/bin/sh
# What does this machine still lack before cargo can build and run M2Key?
#
#   scripts/setup.sh demo | test | lint | deb | bench
#
# Installs what is missing when it may (as root, or with sudo that asks no password). Otherwise it
# prints the one command to run and exits 4. When nothing is missing it touches nothing.
# Exit: 0 ready, 2 usage, 3 try later (a download failed), 4 operator needed.
set -eu

# To compile: everything below needs these.
BUILD="
gcc              links every binary, compiles the bundled SQLite and ring's assembly
libc6-dev        C headers and start files for gcc
pkg-config       finds libpcsclite for the pcsc crate
libpcsclite-dev  the PC/SC client library that m2key-agent links
ca-certificates  cargo fetches crates over HTTPS
make             runs the targets people type
"

# To run the whole journey without hardware.
DEMO="
softhsm2         the PKCS#11 HSM of the demo and the tests
opensc           pkcs11-tool, a foreign eye on the HSM token
pcscd            the real PC/SC daemon; the virtual reader is a driver inside it
openssl          a foreign eye on the certificate chain
curl             a foreign client for the listeners
"

# To look at the result the way a phone or a person would.
TEST="
vsmartcard-vpcd  Debian's virtual reader: one smoke test with a driver that is not ours
zbar-tools       zbarimg reads the QR code off the kiosk screenshot
chromium         renders the kiosk page for that screenshot
python3          runs our second opinions on JWS and NDEF, written without our code
python3-venv     keeps the judges of certificates and of the API away from the system's Python
nodejs           runs the OpenID provider and drives the browser in the tests of the pages
npm              installs those two
libclang-dev     reads OpenSSL's headers for Kryoptic, the second PKCS#11 module
libssl-dev       what Kryoptic computes with
kannel           the SMS gateway: bearerbox and smsbox
kannel-extras    its fake message centre
postgresql       the database of many nodes: the store's tests start clusters of their own
"

LINT="
shellcheck       reads our shell scripts
systemd          systemd-analyze reads our units; it need not run here
gcc-mingw-w64-x86-64 links the agent for Windows, compiles SQLite and ring's assembly for it
"

# To build Debian packages, and to try them in a copy of this system.
DEB="
dpkg-dev         dpkg-shlibdeps says which libraries a program needs
binutils         strip takes the debug information out
"

# To stand beside others' work.
BENCH="
nginx-light      what a TLS handshake, a request and an idle connection cost elsewhere
util-linux       taskset pins each server to a core
python3-venv     keeps the peers that are measured beside us away from the system's Python
postgresql       the database of many nodes: benchmarks start a cluster of their own
"

DENY_VERSION='^0.20'
BARE_METAL=x86_64-unknown-none
WINDOWS=x86_64-pc-windows-gnu

main() {
    cd "$(dirname "$0")/.."
    case "${1:-}" in
        demo) wanted="$BUILD$DEMO" ;;
        test) wanted="$BUILD$DEMO$TEST$DEB" ;;
        lint) wanted="$BUILD$LINT" ;;
        deb) wanted="$BUILD$DEB" ;;
        bench) wanted="$BUILD$DEMO$BENCH" ;;
        *) fail 2 "expected one of: demo, test, lint, deb, bench" "scripts/setup.sh demo" ;;
    esac
    purpose=$1

    debian_packages
    rust_toolchain
    case $purpose in
        lint) lint_tools ;;
        demo) pcscd_directory ;;
        bench)
            pcscd_directory
            judges privacyidea "the peer of our benchmarks"
            ;;
        test)
            pcscd_directory
            judges judges "the certificate linter"
            judges api-judges "the judges of the OpenAPI document"
            web_tools
            kryoptic
            ;;
    esac
}

debian_packages() {
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null ||
        fail 4 "this machine has no apt-get, and lacks (Debian names): $missing" \
            "install these with your own package manager, then run this again"
    say "installing: $missing"
    apt_get update -q || download_failed
    missing=$(with_ubuntu_names "$missing")
    # shellcheck disable=SC2086 # a list of package names, one word each
    apt_get install -y -q --no-install-recommends $missing || download_failed
}

# The names that dpkg does not know as installed, on one line.
missing_packages() {
    for name in $(printf '%s' "$wanted" | awk 'NF { print $1 }'); do
        installed "$name" || printf '%s ' "$name"
    done | sed 's/ $//'
}

installed() {
    case $1 in
        chromium) if browser_found; then return 0; fi ;;
        nodejs) if new_enough node 18; then return 0; fi ;;
        npm) if command -v npm >/dev/null; then return 0; fi ;;
    esac
    if command -v dpkg-query >/dev/null; then
        dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
    else
        return 1
    fi
}

# new_enough node 18: is there a program of this name with at least this major version?
new_enough() {
    command -v "$1" >/dev/null || return 1
    major=$("$1" --version | sed 's/^v\([0-9]*\).*/\1/')
    [ "$major" -ge "$2" ]
}

browser_found() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
        command -v google-chrome >/dev/null
}

# Ubuntu calls it chromium-browser, and that package installs the snap.
with_ubuntu_names() {
    for name in $1; do
        if [ "$name" = chromium ] && ! apt-cache show chromium >/dev/null 2>&1; then
            name=chromium-browser
        fi
        printf '%s ' "$name"
    done
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@"
}

rust_toolchain() {
    command -v cargo >/dev/null || fail 4 "no cargo on PATH" "install Rust from https://rustup.rs"
    command -v rustup >/dev/null || return 0
    channel=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
    rustup run "$channel" rustc --version >/dev/null 2>&1 ||
        rustup toolchain install --profile minimal "$channel" || download_failed
}

lint_tools() {
    cargo fmt --version >/dev/null 2>&1 || rust_part component rustfmt
    cargo clippy --version >/dev/null 2>&1 || rust_part component clippy
    for target in "$BARE_METAL" "$WINDOWS"; do
        libraries=$(rustc --print target-libdir --target "$target")
        [ -d "$libraries" ] || rust_part target "$target"
    done
    case "$(cargo deny --version 2>/dev/null)" in
        "cargo-deny ${DENY_VERSION#^}."*) ;;
        *) install_cargo_deny ;;
    esac
}

rust_part() {
    command -v rustup >/dev/null ||
        fail 4 "this Rust lacks the $1 $2, and there is no rustup to add it" \
            "install Rust from https://rustup.rs"
    rustup "$1" add --toolchain "$channel" "$2" || download_failed
}

# Some minutes, once per machine. Its build stays out of this project's target directory.
install_cargo_deny() {
    say "building cargo-deny $DENY_VERSION: two to four minutes, once"
    env -u CARGO_TARGET_DIR cargo install --locked --quiet cargo-deny --version "$DENY_VERSION" ||
        download_failed
}

# pcscd writes its pid file here even when it listens elsewhere; after a boot without a system
# pcscd the directory is not there, and only root can make it. A system pcscd is left alone.
pcscd_directory() {
    [ -d /run/pcscd ] || as_root mkdir -p /run/pcscd
}

# judges judges "the certificate linter": tools of others that judge our work, at the versions of
# scripts/judges.txt. They lie where cargo puts everything else, because the tests look for them there.
judges() {
    place=${CARGO_TARGET_DIR:-target}/$1
    wanted_tools=scripts/$1.txt
    cmp -s "$wanted_tools" "$place/installed.txt" && return 0
    say "installing $2 into $place"
    python3 -m venv --clear "$place" ||
        fail 4 "python3 cannot make a virtual environment" "apt-get install -y python3-venv"
    "$place/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --requirement "$wanted_tools" || download_failed
    cp "$wanted_tools" "$place/installed.txt"
}

# What tests/web/package.json names, at the versions of its lock file.
web_tools() {
    lock=tests/web/package-lock.json
    cmp -s "$lock" tests/web/node_modules/installed.json && return 0
    say "installing the tests' OpenID provider and browser driver into tests/web/node_modules"
    npm ci --prefix tests/web --silent || download_failed
    cp "$lock" tests/web/node_modules/installed.json
}

# A second PKCS#11 module, by other people, for the tests of hsm. It has a workspace and a lock file of its own.
kryoptic() {
    place=${CARGO_TARGET_DIR:-target}/kryoptic
    module=$place/release/libkryoptic_pkcs11.so
    lock=tests/kryoptic/Cargo.lock
    [ -e "$module" ] && cmp -s "$lock" "$place/built.lock" && return 0
    say "building Kryoptic into $place: three minutes, once"
    cargo build --locked --quiet --release --target-dir "$place" \
        --manifest-path tests/kryoptic/Cargo.toml || download_failed
    cp "$lock" "$place/built.lock"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo "$@"
    else
        fail 4 "root is needed to prepare this machine" "run: $(the_one_command)"
    fi
}

# Everything only root can do, in one line, whichever step noticed first.
the_one_command() {
    printf "sudo sh -c '"
    all_missing=$(missing_packages)
    [ -z "$all_missing" ] ||
        printf 'apt-get update && apt-get install -y --no-install-recommends %s && ' \
            "$(with_ubuntu_names "$all_missing" | sed 's/ $//')"
    printf "mkdir -p /run/pcscd'"
}

download_failed() {
    fail 3 "a download failed (its own words are above)" "check the network or proxy, then run this again"
}

say() {
    printf 'setup: %s\n' "$1" >&2
}

fail() {
    printf 'error: %s\nhint: %s\n' "$2" "$3" >&2
    exit "$1"
}

main "$@"

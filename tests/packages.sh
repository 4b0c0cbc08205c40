#!/usr/bin/env bash
# Builds the Debian packages, installs them in an empty Debian, runs the demo's exchange between the installed programs,
# removes the packages and checks that they leave nothing behind. `tests/run packages` calls it as root.
set -euo pipefail
cd "$(dirname "$0")/.."

DIRECTORY=$PWD/target/packages
BASE=$DIRECTORY/base # an empty Debian, kept for the next run
ROOT=$DIRECTORY/root
SUITE=bookworm
# The mirror from which this machine gets the suite.
MIRROR=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    sed -n "s/^$SUITE //p" | head -n 1)

# Files that dpkg and the system users leave behind, as for every package.
ignored='^\./(proc|sys|dev|tmp|run|var/(lib/(dpkg|systemd)|log|cache)|etc/(passwd|group|shadow|gshadow|\.pwd\.lock))|^\.?/?$'

list_files() { (cd "$ROOT" && find . -xdev ! -type d | grep -vE "$ignored" | sort); }
in_root() { chroot "$ROOT" env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }

unmount() {
    for mount in proc dev; do
        if mountpoint -q "$ROOT/$mount"; then umount -l "$ROOT/$mount"; fi
    done
}

build() {
    echo "== packages"
    rm -rf target/debian
    for package in sealpost-relay sealpost-node; do
        target/tools/bin/cargo-deb deb --locked -p "$package"
    done
    cargo build --locked --release -p sealpost-demo
    ls -l target/debian/*.deb
}

install_musl() { command -v musl-gcc || apt-get install -y -qq musl-tools; }

# Static programs, which run on every Linux. SQLite and ring are compiled with musl-gcc.
build_tarballs() {
    local target=x86_64-unknown-linux-musl name
    echo "== static tarballs"
    if ! rustup target add "$target" >/dev/null 2>&1 || ! install_musl >/dev/null 2>&1; then
        echo "NOT RUN: static tarballs, because the Rust target $target or musl-gcc (Debian: musl-tools) cannot be installed"
        return
    fi
    cargo build --locked --release --target "$target" -p sealpost-relay -p sealpost-node
    for name in sealpost sealpost-relay; do
        tar -C "target/$target/release" -czf "$DIRECTORY/$name-$target.tar.gz" "$name"
        # A static program runs without the libraries of a system.
        env -i "target/$target/release/$name" --version
        if ldd "target/$target/release/$name" >/dev/null 2>&1; then
            echo "$name is not static" >&2
            return 1
        fi
    done
    ls -l "$DIRECTORY"/*.tar.gz
}

create_base() {
    if [ -e "$BASE/ready" ]; then return; fi
    echo "== an empty Debian in $BASE"
    rm -rf "$BASE"
    debootstrap --variant=minbase --include=systemd,procps,ca-certificates "$SUITE" "$BASE" "$MIRROR" >"$DIRECTORY/debootstrap.log" 2>&1 || {
        tail -n 20 "$DIRECTORY/debootstrap.log" >&2
        return 1
    }
    touch "$BASE/ready"
}

create_root() {
    unmount
    rm -rf "$ROOT"
    cp -a "$BASE" "$ROOT"
    mount -t proc proc "$ROOT/proc" 2>/dev/null || mount --bind /proc "$ROOT/proc"
    mount --bind /dev "$ROOT/dev"
}

install_packages() {
    echo "== installation"
    mkdir "$ROOT/packages"
    cp target/debian/*.deb "$ROOT/packages"
    in_root sh -c 'dpkg -i /packages/*.deb'
    for user in sealpost sealpost-relay; do
        in_root getent passwd "$user"
    done
    for program in sealpost sealpost-relay; do
        in_root "$program" --version
        in_root systemd-analyze verify --man=no "/usr/lib/systemd/system/$program.service"
    done
    in_root sealpost-relay config show --config /etc/sealpost-relay/relay.toml >/dev/null
}

exchange() {
    echo "== the demo's exchange between the installed programs"
    cp target/release/sealpost-demo "$ROOT/packages"
    in_root /packages/sealpost-demo --once --programs /usr/bin
}

remove_packages() {
    echo "== removal"
    in_root dpkg --remove sealpost-relay sealpost-node
    in_root dpkg --purge sealpost-relay sealpost-node
    rm -r "$ROOT/packages"
    if ! diff <(printf '%s\n' "$1") <(list_files); then
        echo "the packages changed or left these files" >&2
        return 1
    fi
    if in_root dpkg -l 'sealpost*' 2>/dev/null | grep '^.i'; then
        echo "a package is still installed" >&2
        return 1
    fi
}

mkdir -p "$DIRECTORY"
trap unmount EXIT
build
create_base
create_root
before=$(list_files)
install_packages
exchange
remove_packages "$before"
echo "the packages install, work together and are removed cleanly"
build_tarballs

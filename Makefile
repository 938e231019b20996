# The two commands of a newcomer are `make demo` and `make test`; both install what they need on a fresh Debian 12.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: setup build demo test test-all test-kernels fuzz-short lint deny bench clean

PACKAGES := povray povray-examples povray-includes blender ffmpeg imagemagick python3-numpy git gcc libc6-dev fuse3 bubblewrap strace \
  python3 python3-venv util-linux e2fsprogs iproute2
# What must not be skipped where we install everything ourselves.
export SAFELIGHT_REQUIRE ?= root,fuse,userns,landlock,povray,blender,setpriv,ip,python3,numpy,ffmpeg,convert,git,gcc,python-packages,pjdfstest,fsx,loop,moto
# What the independent reader of our format needs, and an object store for the tests; in an environment of its own, since Debian has neither.
PYTHON := $${CARGO_TARGET_DIR:-target}/python
PYTHON_PACKAGES := cryptography==50.0.2 blake3==1.0.11 moto[server]==5.2.5

# Suites for file systems that are crates: built once, beside what is built of ours.
TOOLS := $${CARGO_TARGET_DIR:-target}/tools
SUITES := pjdfstest@0.2.2 fsx@0.3.2

# Installs what is missing, as root; as somebody else it says what to ask for.
setup:
	@missing=""; for package in $(PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ]; then echo "please install as root: apt-get install --no-install-recommends$$missing"; exit 1; fi; \
	  echo "installing:$$missing"; \
	  export DEBIAN_FRONTEND=noninteractive; apt-get update -q; apt-get install -y -q --no-install-recommends $$missing; \
	fi
	@[ -x "$(PYTHON)/bin/python3" ] && "$(PYTHON)/bin/python3" -c 'import cryptography, blake3, moto' 2>/dev/null || { \
	  python3 -m venv "$(PYTHON)"; "$(PYTHON)/bin/pip" install -q $(foreach package,$(PYTHON_PACKAGES),'$(package)'); }
	@command -v cargo >/dev/null || { echo "please install a Rust toolchain: see rust-toolchain.toml for the version"; exit 1; }
	@for suite in $(SUITES); do [ -x "$(TOOLS)/bin/$${suite%@*}" ] || cargo install -q --locked --root "$(TOOLS)" "$$suite"; done

build: setup
	cargo build --release

demo: build
	"$${CARGO_TARGET_DIR:-target}/release/safelight" demo

# The quick tier: every test that a change must pass.
test: setup
	cargo build --workspace --all-targets
	cargo test --workspace --no-fail-fast

# And the long ones. Two of the ignored are no tests: another test starts and kills them.
test-all: test
	cargo test --workspace --no-fail-fast -- --ignored --skip the_process_that_is_killed --skip the_farm_that_is_killed
	$(MAKE) test-kernels

# The suite of escapes and limits inside Debian's 6.1 and 6.12, on an emulated machine: about a quarter of an hour for each on two processors that
# nobody else uses. Where the machine has other load, KERNELS_PATIENCE gives a guest longer than 40 minutes.
KERNEL_PACKAGES := qemu-system-x86 busybox-static cpio e2fsprogs binutils xz-utils
test-kernels: PACKAGES += $(KERNEL_PACKAGES)
test-kernels: setup
	cargo build --bin safelight
	@suite="$$(cargo test --test escape --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\)).*/\1/p')"; \
	[ -x "$$suite" ] || { cargo test --test escape --no-run; exit 1; }; \
	tests/kernels/run.sh "$${CARGO_TARGET_DIR:-target}/debug/safelight" "$$suite"

# Every parser of bytes that are not ours, with made-up bytes: FUZZ_SECONDS for each target, beginning with the corpus. What is found is left in
# fuzz/artifacts; it belongs into fuzz/corpus once it is mended. `cargo fuzz run` needs nightly only for its sanitizers, which are left out:
# there is no unsafe code in what is fuzzed.
FUZZ_SECONDS ?= 15
FUZZ_TARGETS := sealed signed logs jobs talk
fuzz-short:
	@command -v cargo-fuzz >/dev/null || [ -x "$(TOOLS)/bin/cargo-fuzz" ] || cargo install -q --locked --root "$(TOOLS)" cargo-fuzz@0.13.2
	@export PATH="$$PATH:$$(realpath -m "$(TOOLS)")/bin"; cargo fuzz build --fuzz-dir fuzz --target-dir fuzz/target -s none
	@mkdir -p fuzz/artifacts; new="$$(mktemp -d)"; trap 'rm -rf "$$new"' EXIT; failed=""; ran=0; \
	for target in $(FUZZ_TARGETS); do \
	  mkdir "$$new/$$target"; log="$$new/$$target.log"; \
	  if fuzz/target/*/release/$$target -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -timeout=20 -max_len=16384 -print_final_stats=1 \
	    -artifact_prefix=fuzz/artifacts/$$target- "$$new/$$target" fuzz/corpus/$$target >"$$log" 2>&1; \
	  then ran=$$((ran + $$(sed -n 's/^stat::number_of_executed_units: *//p' "$$log"))); \
	  else tail -n 40 "$$log"; failed="$$failed $$target"; fi; \
	done; \
	if [ -n "$$failed" ]; then echo "fuzz result: FAILED.$$failed; see fuzz/artifacts"; exit 1; fi; \
	echo "fuzz result: ok. $(words $(FUZZ_TARGETS)) targets, $$ran inputs tried, nothing found"

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# The advisory database is fetched from its own server: where that cannot be reached, the other three checks still count.
deny:
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked --version 0.20.2
	cargo deny check bans licenses sources
	@if cargo deny fetch db >/dev/null 2>&1; then cargo deny check advisories; \
	else echo "advisories: NOT CHECKED, the database cannot be reached from here"; fi

# Side by side with what people use instead; installs it. Takes about a quarter of an hour, and empties the page cache of this machine.
BENCH_PYTHON_PACKAGES := hyperqueue==0.27.0 openjd-cli==0.8.0
BENCH_PACKAGES := gocryptfs securefs restic rclone rsync
bench: PACKAGES += $(BENCH_PACKAGES)
bench: build
	"$(PYTHON)/bin/pip" install -q $(BENCH_PYTHON_PACKAGES)
	"$${CARGO_TARGET_DIR:-target}/release/safelight" bench vfs
	"$${CARGO_TARGET_DIR:-target}/release/safelight" bench launch
	PATH="$$(realpath "$(PYTHON)/bin"):$$PATH" "$${CARGO_TARGET_DIR:-target}/release/safelight" bench dispatch
	"$${CARGO_TARGET_DIR:-target}/release/safelight" bench bundle

clean:
	cargo clean

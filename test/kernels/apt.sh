# Sourced: `of_suite DIRECTORY SUITE [ARCHITECTURE]` adds to apt_options what makes apt give the packages of that suite of
# Debian, whatever this machine's are. Its lists and what it downloads are in the directory: this machine's stay as they were.
of_suite() {
  local directory=$1 suite=$2 architecture=${3-}
  [ -n "$architecture" ] || architecture=$(dpkg --print-architecture)
  mkdir -p "$directory"/{lists,cache/archives}/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$directory/sources.list"
  # Nothing is installed there, so a package comes with all that it depends on.
  : >"$directory/status"
  apt_options+=(-o "Dir::Etc::SourceList=$directory/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$directory/lists" -o "Dir::Cache=$directory/cache" -o "Dir::State::Status=$directory/status"
    -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture")
}

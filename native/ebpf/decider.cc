#include "ebpf/decider.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "bpf/build/decide.skel.h"
#include "ebpf/change_hooks.h"
#include "ebpf/kept.h"
#include "ebpf/libbpf_log.h"
#include "ebpf/probe.h"
#include "os/clock.h"
#include "os/error.h"

namespace janus {

Decider::Decider(const BpfPrograms& programs, Mode mode, const Self& self) {
  if (mode == Mode::off) changes_refusal_ = "the daemon runs with --kernel-decides=false";
  else if (!probe_kernel().fentry.works()) changes_refusal_ = "it takes no fmod_ret programs (janusctl doctor: fentry)";
  if (mode == Mode::off || (mode == Mode::on && !changes_refusal_.empty())) return;
  listen_to_libbpf();
  const ChangeHooks hooks = mode == Mode::on ? find_change_hooks() : ChangeHooks{};
  changes_refusal_ = hooks.refusal;
  refusal_ = load(programs, mode, self, hooks);
  // What denies changes must not take the rest along.
  if (!refusal_.empty() && changes_refusal_.empty()) {
    changes_refusal_ = std::exchange(refusal_, {});
    refusal_ = load(programs, mode, self, hooks);
  }
  if (skeleton_ == nullptr) return;
  ring_ = ring_buffer__new(bpf_map__fd(skeleton_->maps.denials), &Decider::on_denial, this, nullptr);
  LIBBPF_OPTS(bpf_test_run_opts, options);
  if (ring_ == nullptr || bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.attend), &options) != 0) {
    const int number = errno;
    close();
    throw Error::system(number, "ring_buffer__new", "map denials");
  }
  attachments_.add(*skeleton_->skeleton);
  beat(0);
}

std::string Decider::load(const BpfPrograms& programs, Mode mode, const Self& self, const ChangeHooks& hooks) {
  skeleton_ = decide_bpf::open();
  if (skeleton_ == nullptr) throw refused_by_libbpf("open the programs", "bpf/decide.bpf.o");
  // An inode of an overlay may be known by two.
  bpf_map__set_max_entries(skeleton_->maps.rules, 2 * programs.sizes().identities);
  bpf_map__set_max_entries(skeleton_->maps.change_rules, 2 * programs.sizes().identities);
  bpf_map__set_max_entries(skeleton_->maps.directories, programs.sizes().identities);
  janus_presence& presence = skeleton_->data_presence->presence;
  presence.denies = self.away_denies;
  self.version.copy(presence.version, sizeof(presence.version));
  for (bpf_program* hook : {skeleton_->progs.decide_open, skeleton_->progs.daemon_exit})
    bpf_program__set_autoload(hook, mode == Mode::on);
  for (const ChangeHook& hook : kChangeHooks) bpf_program__set_autoload(skeleton_->progs.*hook.program, false);
  if (changes_refusal_.empty())
    for (const ChangeHook* hook : hooks.present) bpf_program__set_autoload(skeleton_->progs.*hook->program, true);
  if (bpf_map__reuse_fd(skeleton_->maps.tasks, programs.tasks_fd()) != 0 || decide_bpf::load(skeleton_) != 0 ||
      decide_bpf::attach(skeleton_) != 0) {
    const std::string refused = refused_by_libbpf("decide in the kernel", "bpf/decide.bpf.o").what();
    close();
    return refused;
  }
  return {};
}

Decider::~Decider() { close(); }

void Decider::close() {
  ring_buffer__free(std::exchange(ring_, nullptr));
  decide_bpf::destroy(std::exchange(skeleton_, nullptr));
}

std::vector<std::pair<std::string, int>> Decider::kept() const {
  if (skeleton_ == nullptr) return {};
  std::vector<std::pair<std::string, int>> kept = {{Kept::kPresence, bpf_map__fd(skeleton_->maps.data_presence)},
                                                   {Kept::kCounts, bpf_map__fd(skeleton_->maps.away_counts)}};
  const auto keep = [&](const char* name, const bpf_link* link) {
    if (link != nullptr) kept.emplace_back(name, bpf_link__fd(link));
  };
  keep("decide_open", skeleton_->links.decide_open);
  for (const ChangeHook& hook : kChangeHooks) keep(hook.name, skeleton_->links.*hook.link);
  return kept;
}

void Decider::settle() {
  if (skeleton_ != nullptr) skeleton_->data_presence->presence.settled = 1;
}

void Decider::beat(std::uint64_t generation) {
  if (skeleton_ == nullptr) return;
  janus_presence& presence = skeleton_->data_presence->presence;
  presence.generation = generation;
  presence.beat_ns = boot_ns();
}

void Decider::lose_heir() {
  if (skeleton_ != nullptr) skeleton_->data_presence->presence.heir = 0;
}

void Decider::leave() {
  if (skeleton_ == nullptr) return;
  janus_presence& presence = skeleton_->data_presence->presence;
  presence.left_ns = boot_ns();
  presence.away = 1;
}

std::vector<janus_rule_key> Decider::keys_of(int fd) const {
  if (skeleton_ == nullptr) return {};
  janus_real_inodes_args args = {.fd = fd, .count = 0, .keys = {}};
  // The program writes its answer into the context.
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &args, .ctx_size_in = sizeof(args));
  if (bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.real_inodes), &options) != 0) return {};
  return {args.keys, args.keys + std::min<std::size_t>(args.count, std::size(args.keys))};
}

template <typename Value>
std::optional<Value> Decider::get(const bpf_map* map, const void* key) {
  Value value{};
  return bpf_map_lookup_elem(bpf_map__fd(map), key, &value) == 0 ? std::optional(value) : std::nullopt;
}

bool Decider::put(const bpf_map* map, const void* key, const void* value, Counter& full) {
  if (bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY) == 0) return true;
  full.add();
  return false;
}

bool Decider::set(const janus_rule_key& key, const janus_rule& rule) {
  return skeleton_ == nullptr || put(skeleton_->maps.rules, &key, &rule, rules_full_);
}

void Decider::remove(const janus_rule_key& key) {
  if (skeleton_ != nullptr) bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.rules), &key);
}

bool Decider::set_directory(std::uint64_t inode) {
  const std::uint8_t known = 1;
  return skeleton_ == nullptr || put(skeleton_->maps.directories, &inode, &known, directories_full_);
}

void Decider::remove_directory(std::uint64_t inode) {
  if (skeleton_ != nullptr) bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.directories), &inode);
}

bool Decider::set(const janus_name_key& key, const janus_name& name) {
  return skeleton_ == nullptr || put(skeleton_->maps.names, &key, &name, names_full_);
}

void Decider::remove(const janus_name_key& key) {
  if (skeleton_ != nullptr) bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.names), &key);
}

std::optional<janus_name> Decider::name(const janus_name_key& key) const {
  return skeleton_ == nullptr ? std::nullopt : get<janus_name>(skeleton_->maps.names, &key);
}

bool Decider::set(const janus_guarded_key& key) {
  const std::uint8_t anything = 1;
  return skeleton_ == nullptr || put(skeleton_->maps.guarded, &key, &anything, guarded_full_);
}

void Decider::remove(const janus_guarded_key& key) {
  if (skeleton_ != nullptr) bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.guarded), &key);
}

bool Decider::set(const janus_rule_key& key, const janus_change_rule& rule) {
  if (skeleton_ == nullptr) return true;
  return put(skeleton_->maps.change_rules, &key, &rule, change_rules_full_);
}

bool Decider::set(std::uint32_t number, const janus_change_rule& rule) {
  return skeleton_ == nullptr || put(skeleton_->maps.change_paths, &number, &rule, change_paths_full_);
}

bool Decider::set(const janus_guarded_key& key, const janus_change_rule& rule) {
  if (skeleton_ == nullptr) return true;
  skeleton_->bss->changes_denied = 1;
  return put(skeleton_->maps.change_places, &key, &rule, change_places_full_);
}

std::optional<janus_change_rule> Decider::changes(const janus_rule_key& key) const {
  return skeleton_ == nullptr ? std::nullopt : get<janus_change_rule>(skeleton_->maps.change_rules, &key);
}

std::optional<janus_change_rule> Decider::changes(std::uint32_t number) const {
  return skeleton_ == nullptr ? std::nullopt : get<janus_change_rule>(skeleton_->maps.change_paths, &number);
}

std::optional<janus_change_rule> Decider::changes(const janus_guarded_key& key) const {
  return skeleton_ == nullptr ? std::nullopt : get<janus_change_rule>(skeleton_->maps.change_places, &key);
}

void Decider::remove_changes(const janus_rule_key& key) {
  if (skeleton_ != nullptr) bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.change_rules), &key);
}

void Decider::remove_changes(std::uint32_t number) {
  if (skeleton_ != nullptr) bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.change_paths), &number);
}

void Decider::remove_changes(const janus_guarded_key& key) {
  if (skeleton_ != nullptr) bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.change_places), &key);
}

std::optional<janus_rule> Decider::rule(const janus_rule_key& key) const {
  return skeleton_ == nullptr ? std::nullopt : get<janus_rule>(skeleton_->maps.rules, &key);
}

int Decider::fd() const { return ring_ == nullptr ? -1 : ring_buffer__epoll_fd(ring_); }

int Decider::on_denial(void* context, void* data, std::size_t size) {
  auto& self = *static_cast<Decider*>(context);
  if (const auto denial = denial_of(data, size)) {
    (*self.visit_)(*denial);
    ++self.visited_;
  }
  return 0;
}

std::size_t Decider::consume(const std::function<void(const KernelDenial&)>& visit) {
  if (ring_ == nullptr) return 0;
  visit_ = &visit;
  visited_ = 0;
  ring_buffer__consume(ring_);
  return visited_;
}

std::uint64_t Decider::lost_total() const { return skeleton_ == nullptr ? 0 : skeleton_->bss->lost_total; }

std::vector<Decider::Lost> Decider::lost() const {
  std::vector<Lost> all;
  if (skeleton_ == nullptr) return all;
  const int map = bpf_map__fd(skeleton_->maps.lost);
  janus_lost_key last{}, key{};
  for (const janus_lost_key* at = nullptr; bpf_map_get_next_key(map, at, &key) == 0; at = &last) {
    last = key;
    std::uint64_t count = 0;
    if (bpf_map_lookup_elem(map, &key, &count) == 0) all.push_back({key.subject, key.kind, count});
  }
  return all;
}

std::map<std::string, std::uint64_t> Decider::full() const {
  if (skeleton_ == nullptr) return {};
  return {{"rules", rules_full_.get()}, {"directories", directories_full_.get()}, {"names", names_full_.get()}, {"guarded", guarded_full_.get()},
          {"change_rules", change_rules_full_.get()}, {"change_paths", change_paths_full_.get()}, {"change_places", change_places_full_.get()}};
}

bool Decider::has_room() const {
  return std::ranges::all_of(full(), [](const auto& map) { return map.second == 0; });
}

std::vector<MapUse> Decider::maps() const {
  if (skeleton_ == nullptr) return {};
  const auto known = full();
  std::vector<MapUse> maps = maps_of(skeleton_->obj);
  std::erase_if(maps, [](const MapUse& map) { return map.name == "tasks"; });
  for (MapUse& map : maps)
    if (const auto it = known.find(map.name); it != known.end()) map.full = it->second;
  return maps;
}

}  // namespace janus

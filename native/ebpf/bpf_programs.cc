#include "ebpf/bpf_programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>

#include "bpf/build/janusd.skel.h"
#include "os/error.h"
#include "ebpf/libbpf_log.h"
#include "os/unique_fd.h"

namespace janus {
namespace {

Error refused(const std::string& what) { return refused_by_libbpf(what, "bpf/janusd.bpf.o"); }

// What the kernel says that a map takes (proc(5), fdinfo). 0: it doesn't say.
std::uint64_t bytes_of(const bpf_map* map) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(bpf_map__fd(map)));
  std::string name;
  while (info >> name) {
    if (std::uint64_t bytes = 0; name == "memlock:" && info >> bytes) return bytes;
  }
  return 0;
}

constexpr std::size_t kTaskBitsBytes = JANUS_TASK_WORDS * sizeof(__u64);

// Twice what the kernel hands out at once.
constexpr std::size_t kIterBytes = 64 * 1024;

// `visit` takes what is there as a whole, and returns what is left.
template <typename Visit>
void read_iterator(const bpf_link* link, Visit visit) {
  const UniqueFd iterator(bpf_iter_create(bpf_link__fd(link)));
  if (!iterator) throw Error::system(errno, "bpf_iter_create", "iter/task");
  std::vector<char> buffer(kIterBytes);
  std::size_t have = 0;
  for (;;) {
    const ssize_t got = ::read(iterator.get(), buffer.data() + have, buffer.size() - have);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got < 0) throw Error::system(errno, "read", "iter/task");
    if (got == 0) return;
    have += static_cast<std::size_t>(got);
    const std::string_view rest = visit(std::string_view{buffer.data(), have});
    have = rest.size();
    std::memmove(buffer.data(), rest.data(), have);
  }
}

}  // namespace

std::vector<MapUse> maps_of(const bpf_object* object) {
  std::vector<MapUse> maps;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object)
    maps.push_back({.name = bpf_map__name(map), .bytes = bytes_of(map), .max_entries = bpf_map__max_entries(map)});
  return maps;
}

int BpfPrograms::on_record(void* context, void* data, std::size_t size) {
  auto& batch = *static_cast<Batch*>(context);
  if (const auto record = record_of(data, size)) (*batch.visit)(*record->first, record->second);
  batch.left -= static_cast<std::int64_t>(size);
  return batch.left > 0 ? 0 : -ECANCELED;
}

BpfPrograms::BpfPrograms(const MapSizes& sizes) : sizes_(sizes) {
  listen_to_libbpf();
  libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
  skeleton_ = janusd_bpf::open();
  if (skeleton_ == nullptr) throw refused("open the programs");
  bpf_map__set_max_entries(skeleton_->maps.tasks, sizes.tasks);
  bpf_map__set_max_entries(skeleton_->maps.cgroups, sizes.cgroups);
  bpf_map__set_max_entries(skeleton_->maps.identities, sizes.identities);
  bpf_map__set_max_entries(skeleton_->maps.lower_identities, sizes.lower_identities);
  bpf_map__set_max_entries(skeleton_->maps.records, sizes.records);
  if (janusd_bpf::load(skeleton_) != 0) {
    Error error = refused("load the programs");
    close();
    throw error;
  }
  // The iterator is linked at each use; attach() covers the tracepoints.
  if (janusd_bpf::attach(skeleton_) != 0) {
    Error error = refused("attach the programs");
    close();
    throw error;
  }
  attachments_.add(*skeleton_->skeleton);
  locate_fd_ = bpf_program__fd(skeleton_->progs.locate);
  ring_ = ring_buffer__new(bpf_map__fd(skeleton_->maps.records), &BpfPrograms::on_record, &batch_, nullptr);
  void* mapped = mmap(nullptr, sizeof(janus_slot) * JANUS_PATH_SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED,
                      bpf_map__fd(skeleton_->maps.slots), 0);
  if (ring_ == nullptr || mapped == MAP_FAILED) {
    Error error = refused("map the programs' memory");
    close();
    throw error;
  }
  slots_ = static_cast<janus_slot*>(mapped);
  mapped = mmap(nullptr, kTaskBitsBytes, PROT_READ | PROT_WRITE, MAP_SHARED, task_bits_fd(), 0);
  if (mapped == MAP_FAILED) {
    Error error = refused("map the processes' bits");
    close();
    throw error;
  }
  task_bits_ = static_cast<__u64*>(mapped);
}

BpfPrograms::~BpfPrograms() { close(); }

void BpfPrograms::close() {
  if (slots_ != nullptr) munmap(slots_, sizeof(janus_slot) * JANUS_PATH_SLOTS);
  if (task_bits_ != nullptr) munmap(task_bits_, kTaskBitsBytes);
  ring_buffer__free(ring_);
  janusd_bpf::destroy(skeleton_);
  slots_ = nullptr;
  task_bits_ = nullptr;
  ring_ = nullptr;
  skeleton_ = nullptr;
}

void BpfPrograms::each_task(const TaskVisitor& visit) {
  const std::lock_guard lock(iterate_);  // the program's buffers are shared
  read_iterator(skeleton_->links.on_task, [&](std::string_view bytes) { return visit_tasks(bytes, visit); });
}

void BpfPrograms::each_thread(const std::function<void(const janus_thread&)>& visit) {
  read_iterator(skeleton_->links.on_thread, [&](std::string_view bytes) { return visit_threads(bytes, visit); });
}

bool BpfPrograms::update(const bpf_map* map, const void* key, const void* value, std::uint64_t flags, Counter& full) {
  if (bpf_map_update_elem(bpf_map__fd(map), key, value, flags) == 0 || errno == EEXIST) return true;
  full.add();
  return false;
}

void BpfPrograms::add_cgroup(const janus_cgroup_key& key, std::uint64_t container) {
  if (!update(skeleton_->maps.cgroups, &key, &container, BPF_ANY, cgroups_full_))
    throw Error::system(ENOSPC, "bpf_map_update_elem", "map cgroups");
}

void BpfPrograms::remove_cgroup(const janus_cgroup_key& key) {
  bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.cgroups), &key);
}

bool BpfPrograms::add_task(std::uint32_t tgid, const janus_task& task) {
  // The programs change the same words.
  if (tgid / 64 < JANUS_TASK_WORDS) std::atomic_ref(task_bits_[tgid / 64]).fetch_or(1ull << tgid % 64);
  return update(skeleton_->maps.tasks, &tgid, &task, BPF_ANY, tasks_full_);
}

void BpfPrograms::remove_task(std::uint32_t tgid) { bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.tasks), &tgid); }

std::size_t BpfPrograms::remove_tasks_of(std::uint64_t container) {
  const int map = tasks_fd();
  std::vector<std::uint32_t> theirs;
  std::uint32_t last = 0, tgid = 0;
  for (const std::uint32_t* at = nullptr; bpf_map_get_next_key(map, at, &tgid) == 0; at = &last) {
    last = tgid;
    if (const auto entry = task(tgid); entry && entry->container == container) theirs.push_back(tgid);
  }
  for (const std::uint32_t each : theirs) remove_task(each);
  return theirs.size();
}

std::optional<janus_task> BpfPrograms::task(std::uint32_t tgid) const {
  janus_task task{};
  if (bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.tasks), &tgid, &task) != 0) return std::nullopt;
  return task;
}

void BpfPrograms::set_identity_group(int fd) { skeleton_->data->identity_group_fd = fd; }

bool BpfPrograms::add_identity(std::uint64_t inode, std::uint32_t id) {
  return update(skeleton_->maps.identities, &inode, &id, BPF_ANY, identities_full_);
}

void BpfPrograms::remove_identity(std::uint64_t inode) {
  bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.identities), &inode);
}

bool BpfPrograms::has_identity_mark(std::uint64_t inode) const {
  janus_marked_args args = {.inode = inode};
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &args, .ctx_size_in = sizeof(args));
  return bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.marked), &options) != 0 || options.retval != 0;
}

std::optional<std::string> BpfPrograms::file_system(int fd, std::uint32_t layer, std::uint32_t below) const {
  janus_file_system_args args = {.fd = fd, .layer = layer, .below = below, .pad = 0, .type = {}};
  // The program writes its answer into the context.
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &args, .ctx_size_in = sizeof(args));
  if (bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.file_system), &options) != 0 || options.retval != 0)
    return std::nullopt;
  std::array<char, sizeof(args.type) + 1> name{};
  std::memcpy(name.data(), args.type, sizeof(args.type));
  return std::string(name.data());
}

std::int32_t BpfPrograms::find_descriptor(std::uint32_t pid, std::uint32_t mount_id) const {
  janus_find_descriptor_args args = {.pid = pid, .mount_id = mount_id, .fd = JANUS_FD_NONE, .pad = 0};
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &args, .ctx_size_in = sizeof(args));
  return bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.find_descriptor), &options) == 0 ? args.fd : JANUS_FD_NONE;
}

MountState BpfPrograms::find_mounts(std::uint32_t pid) const {
  janus_find_mounts_args args = {.pid = pid, .pad = 0, .mnt_ns = 0, .mnt_event = 0};
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &args, .ctx_size_in = sizeof(args));
  if (bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.find_mounts), &options) != 0) return {};
  return {args.mnt_ns, args.mnt_event};
}

bool BpfPrograms::add_lower_identity(const janus_lower_key& key, std::uint32_t id) {
  return update(skeleton_->maps.lower_identities, &key, &id, BPF_ANY, lower_identities_full_);
}

void BpfPrograms::remove_lower_identity(const janus_lower_key& key) {
  bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.lower_identities), &key);
}

int BpfPrograms::tasks_fd() const { return bpf_map__fd(skeleton_->maps.tasks); }
int BpfPrograms::task_bits_fd() const { return bpf_map__fd(skeleton_->maps.task_bits); }
int BpfPrograms::cgroups_fd() const { return bpf_map__fd(skeleton_->maps.cgroups); }
int BpfPrograms::untracked_fd() const { return bpf_map__fd(skeleton_->maps.untracked); }

int BpfPrograms::identities_fd() const { return bpf_map__fd(skeleton_->maps.identities); }

std::vector<std::pair<std::string, int>> BpfPrograms::kept_links() const {
  return {{"on_fork", bpf_link__fd(skeleton_->links.on_fork)},
          {"on_attach", bpf_link__fd(skeleton_->links.on_attach)},
          {"on_exit", bpf_link__fd(skeleton_->links.on_exit)}};
}

int BpfPrograms::records_fd() const { return ring_buffer__epoll_fd(ring_); }

void BpfPrograms::consume(const std::function<void(const janus_record&, const RecordTexts&)>& visit) {
  const std::lock_guard lock(consume_);
  // No more than can have been there at the start: under a storm there would be
  // no end, and the caller may be the gate.
  batch_ = {.visit = &visit, .left = bpf_map__max_entries(skeleton_->maps.records)};
  ring_buffer__consume(ring_);
}

std::uint64_t BpfPrograms::counter(janus_counter which) const {
  const std::uint32_t key = which;
  std::uint64_t value = 0;
  bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.counters), &key, &value);
  return value;
}

std::uint64_t BpfPrograms::ring_peak() const { return skeleton_->bss->ring_peak; }

std::map<std::string, std::uint64_t> BpfPrograms::full() const {
  return {{"tasks", tasks_full_.get() + counter(JANUS_COUNT_TASKS_FULL)},
          {"cgroups", cgroups_full_.get()},
          {"identities", identities_full_.get()},
          {"lower_identities", lower_identities_full_.get()},
          {"records", counter(JANUS_COUNT_RING_FULL)}};
}

std::vector<MapUse> BpfPrograms::maps() const {
  const auto known = full();
  std::vector<MapUse> maps = maps_of(skeleton_->obj);
  for (MapUse& map : maps)
    if (const auto it = known.find(map.name); it != known.end()) map.full = it->second;
  return maps;
}

void BpfPrograms::run_locate(std::uint32_t index) const {
  janus_locate_args args = {.slot = index};
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &args, .ctx_size_in = sizeof(args));
  if (bpf_prog_test_run_opts(locate_fd_, &options) != 0) slots_[index].locate.flags = JANUS_LOCATE_NO_FILE;
}

}  // namespace janus

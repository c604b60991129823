#include "decide/explainer.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "cover/border.h"
#include "cover/event_mask.h"
#include "identity/judge.h"
#include "os/error.h"

namespace janus {
namespace {

// Of the rules that are shown. There may be a guard for each of thousands.
constexpr std::size_t kRules = 1000;

// Whether the system calls that do this follow a symlink, or do it to the symlink.
LastSymlink last_symlink(FileEventKind kind) {
  switch (kind) {
    case FileEventKind::create:
    case FileEventKind::remove:
    case FileEventKind::movedfrom:
    case FileEventKind::movedto:
    case FileEventKind::link:
      return LastSymlink::itself;
    default:
      return LastSymlink::followed;
  }
}

// Why the kernel asks nobody about it, and has nobody judge it; "": it may.
std::string unjudged(const std::string& file_system, FileEventKind kind, std::uint32_t mode) {
  if (is_kernel_file_system(file_system)) return "the kernel's own file systems raise no questions";
  if (!is_change(kind) && !S_ISREG(mode) && !S_ISDIR(mode)) return "the kernel asks about files and directories only";
  if (kind == FileEventKind::write && !S_ISREG(mode)) return "only what is written to a regular file is in the file system";
  return {};
}

// What would be found at a path that isn't there yet, once it is: a file of the directory that is.
class Whereabouts {
 public:
  Whereabouts(const Location& at, const std::string& missing) : raw_(*at.raw), path_(at.path) {
    if (missing.empty()) return;
    if (!at.cut()) path_ += missing;
    raw_.full_len += static_cast<std::uint32_t>(missing.size());
    for (std::uint32_t i = 0; i < at.hits(); ++i) raw_.hit_tail[i] += static_cast<std::uint32_t>(missing.size());
    raw_.flags &= ~static_cast<std::uint32_t>(JANUS_LOCATE_PINNED);
    raw_.mode = S_IFREG;
    raw_.nlink = 0;
  }
  Location location() const { return {.raw = &raw_, .path = path_, .asked = {}}; }

 private:
  janus_locate raw_;
  std::string path_;
};

}  // namespace

Explanation Explainer::explain(const std::string& container, const std::string& path, FileEventKind kind, std::uint32_t pid) {
  const ContainerInfo info = parts_.tracker.find(container);
  const ProcessDir first(info.init_pid);
  const std::vector<Mount> mounts = mounts_of(first, ContainerView::kMounts).mounts;
  Resolved resolved;
  try {
    resolved = resolve_local(parts_.programs, first, served_points(mounts), path, last_symlink(kind));
  } catch (Error& error) {
    throw std::move(error).on_path(-1, path);
  }
  const bool exists = resolved.missing.empty();
  const mode_t mode = exists ? resolved.mode : S_IFREG;
  // A new entry is judged by its name, whatever has that now.
  if (kind == FileEventKind::create && exists && !resolved.names.empty()) {
    resolved.object.reset(fcntl(resolved.directories.back()->get(), F_DUPFD_CLOEXEC, 0));
    resolved.missing = "/" + resolved.names.back();
  }
  const Location found = locator_.locate(resolved.object.get(), static_cast<std::int32_t>(pid), true);
  if (!found.found()) throw Error(ErrorCode::system, "cannot be located").on_path(-1, path);
  if (pid != 0 && !(found.raw->flags & JANUS_LOCATE_ACTOR)) throw Error(ErrorCode::invalid, "no such process");
  const Whereabouts whereabouts(found, resolved.missing);
  const Location location = whereabouts.location();
  const janus_locate& raw = *location.raw;

  Explanation said;
  said.container = info.id;
  said.seen = resolved.seen.empty() ? "/" : resolved.seen;
  said.exists = exists;
  said.directory = S_ISDIR(mode);
  said.symlink = S_ISLNK(mode);
  said.links = raw.nlink;
  const auto mount = std::ranges::find(mounts, raw.mount_id, &Mount::id);
  if (mount != mounts.end()) said.file_system = mount->type;
  said.cover.never = unjudged(said.file_system, kind, mode);
  const auto policy = parts_.policy.get();
  const Superblock* superblock = said.cover.never.empty() ? policy->find(raw.dev) : nullptr;
  const Actor of_container{.container = info.cgroup, .owner = false};
  using Who = Explanation::Who;
  std::vector<std::pair<Who, Actor>> actors = {
      {Who::container, of_container}, {Who::owner, {.container = info.cgroup, .owner = true}}, {Who::node, {}}};
  if (pid != 0) actors.emplace_back(Who::process, actor_of(location));
  if (superblock == nullptr) {
    for (const auto& [who, actor] : actors) said.answers.emplace_back().who = who;
    return said;
  }

  const SuperblockPolicy& table = *superblock->table;
  each_path(parts_.identities, location, [&](std::string_view judged) {
    said.judged_as.push_back(table.seen_by(info.cgroup, judged));
    for (const auto& [rule, bearing] : table.bearings(judged, location.directory(), kind, of_container, kRules - said.lines.size())) {
      const Entry& entry = *rule->entry;
      const auto same = [&, bearing = bearing](const Explanation::Line& line) {
        return line.subject == entry.subject->id && line.action == entry.action &&
               line.path == table.seen_by(entry.subject->container, entry.path) && line.bearing == bearing;
      };
      if (std::ranges::any_of(said.lines, same)) continue;
      said.lines.push_back({.subject = entry.subject->id,
                            .action = entry.action,
                            .path = table.seen_by(entry.subject->container, entry.path),
                            .bearing = bearing,
                            .answered = rule->answered});
    }
  });
  for (const auto& [who, actor] : actors) {
    Explanation::Answer& answer = said.answers.emplace_back();
    answer.who = who;
    const auto decided = [&, who = who, actor = actor](bool observed) {
      const Verdict verdict = judge(table, parts_.identities, location, actor, kind, observed);
      const Entry* entry = verdict.decision.entry;
      if (entry == nullptr) return false;
      answer = {.who = who,
                .judged = true,
                .answered = !observed,
                .response = verdict.decision.response(),
                .owner = verdict.decision.owner,
                .anything = verdict.anything,
                .subject = entry->subject->id,
                .action = entry->action,
                .path = table.seen_by(entry->subject->container, entry->path),
                .others = other_deniers(table, parts_.identities, location, actor, kind, verdict)};
      return true;
    };
    if (!decided(false)) decided(true);
    const Entry* below = answer.response == Response::deny ? nullptr : table.denying_below(location.path, kind, actor);
    if (below == nullptr) continue;
    answer = {.who = who,
              .judged = true,
              .answered = true,
              .response = Response::deny,
              .subject = below->subject->id,
              .action = below->action,
              .path = table.seen_by(below->subject->container, below->path),
              .others = {}};
  }

  if (is_change(kind)) {
    said.cover.told = (superblock->dirents & mask_of(kind)) != 0;
    said.cover.never = "it decides about changes by itself";
    return said;
  }
  const PlannedMark whole = parts_.planner.mark_at({raw.dev, 0}), of_mount = parts_.planner.mark_at({raw.dev, raw.mount_id});
  said.cover.identity = identity_asks(parts_.identities, location, permission_mask(mask_of(kind)));
  said.cover.superblock = (whole.gate & permission_mask(mask_of(kind))) != 0;
  said.cover.mount = (of_mount.gate & permission_mask(mask_of(kind))) != 0;
  said.cover.told = ((whole.observer | of_mount.observer) & notification_mask(mask_of(kind))) != 0;
  said.cover.ignored = !said.cover.identity && superblock->learn && location.has_path() && !location.path.empty() &&
                       (table.ignorable(parent_of(location.path), false) ||
                        (said.directory && table.ignorable(location.path, false)));
  if (superblock->by_kernel && !said.cover.identity && !said.cover.superblock && !said.cover.mount)
    said.cover.never = "it denies all that is denied on this file system by itself";
  return said;
}

}  // namespace janus

#include "engine.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "cover/event_mask.h"
#include "os/error.h"
#include "os/fault.h"
#include "os/say.h"
#include "ebpf/probe.h"

namespace janus {
namespace {

// How long records may gather before JavaScript is woken for them: one wake-up
// costs it more than a record does.
constexpr std::chrono::milliseconds kGather{2};

// How often all processes are looked at for mount namespaces that nothing told of.
constexpr int kLookMs = 100;

// ... but for no more than this part of the tracker's time: a look takes longer
// the more processes the node has.
constexpr std::uint64_t kLookShare = 100;

// Between a round of a thread that failed and the next.
constexpr std::chrono::milliseconds kAfterFailure{20};

// How long an ordered end of the engine may take. A thread that is in a dead file
// system would be waited for without end.
constexpr std::chrono::seconds kEndLimit{5};

// ... and that of the process, from the signal on. src/main.ts has less.
constexpr std::chrono::seconds kProcessEndLimit{10};

// How long CreateGuard waits for the directories of watched trees to be known: those of its
// own superblocks. What happens meanwhile waits to be looked at.
constexpr std::chrono::milliseconds kDirentsLimit{250};

}  // namespace

// Members are destroyed in reverse order: threads (joined in stop()) use all of
// the rest, so they come last.
struct Engine::Running {
  Running(const EngineOptions& options, EventRing& ring, LastResort& last_resort, std::function<void()> wake_javascript)
      : last_resort(last_resort),
        probe(probe_kernel()),
        groups(probe.audit.works()),
        programs(map_sizes(Machine::read(), options.identity_limit)),
        canary(groups.gate, policy),
        tracker(programs, {.ended = [this](std::uint64_t container) { container_ended(container); },
                           .namespace_seen = [this](std::uint64_t container, std::uint32_t tid,
                                                    std::uint64_t mnt_ns) { replanner.namespace_seen(container, tid, mnt_ns); }}),
        decider(programs, options.kernel_decides ? Decider::Mode::on : Decider::Mode::off,
                {.version = options.version, .away_denies = options.away_denies}),
        kernel_rules(decider, policy),
        trees(groups, counters),
        identities(groups, programs, trees, refusals, options.identity_limit),
        learner(groups, policy, counters, options.ignore_limit, options.ignore_after),
        planner({programs, tracker, groups, decider, policy, identities, learner, counters, refusals, probe.audit.works()}),
        replanner([this](std::uint64_t container, const Replanner::Change& change) { plan_again(container, change); }),
        names(groups, [this](const std::set<NameOwner>& owners) { replanner.names_changed(owners); }),
        scanner({programs, policy, identities, learner, trees, planner, counters, refusals}),
        explainer({programs, policy, identities, planner, tracker}),
        recorder(ring, tracker, [this] { wake(); }),
        kernel_denials({decider, kernel_rules, policy, tracker, recorder, ring},
                       [this](std::uint64_t container, Device device, std::string_view path) { scanner.see(container, device, path); }),
        dirents({groups, programs, policy, tracker, recorder, counters, refusals}),
        keeper(options.keeper),
        holder(programs, options.hold, options.hold_limit),
        arrivals(holder, options.pod_wait),
        gate({groups, programs, policy, identities, learner, names, replanner, tracker, recorder, counters, keeper.beat()}, options.deadline),
        observer({groups, programs, policy, identities, learner, names, replanner, tracker, recorder, counters, keeper.beat()}),
        stop_event(eventfd(0, EFD_CLOEXEC)),
        mounts_event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        wake_javascript(std::move(wake_javascript)) {
    programs.set_identity_group(groups.identity.fd());
    planner.set_name_watch(&names);
    identities.set_kernel_rules(&kernel_rules);
    planner.set_published([this](const std::set<Device>& devices) {
      for (const Device device : devices) kernel_rules.changed(device);
      dirents.changed(devices);
    });
    if (!decider.refusal().empty()) say("janusd: the kernel decides nothing by itself: " + decider.refusal() + "\n");
    if (options.stalls > 0) counters.exposed_stall.add(options.stalls);
    if (options.keep && decider.works()) keep();
    keeper.start(holder.kept());
    answering.push_back(named("watchdog", [this] { gate.rescue(stopping, stop_event.get()); }));
    answering.push_back(named("gate", [this] { gate.run(stopping, stop_event.get()); }));
    begin("observer", [this] { observer.run(stopping, stop_event.get()); });
    if (decider.works()) begin("denials", [this] { kernel_denials.run(stopping, stop_event.get(), [this] { attend(); }); });
    begin("dirents", [this] { dirents.run(stopping, stop_event.get()); });
    begin("tracker", [this] { track(); });
    begin("planner", [this] { replanner.run(stopping); });
    begin("waker", [this] { deliver_wakes(); });
    scanner_thread = named("scanner", [this] { scanner.run(scanner_stopping); });
    last_resort.on_end([this] {
      decider.leave();
      groups.release_permission();
    });
  }

  // Whoever waits for an answer comes first. The gate and its watchdog wait for
  // nobody, so they end; then the groups that anybody waits for are released.
  // Only then the other threads are waited for: one of them may be in a file
  // system, or itself wait for an answer.
  ~Running() {
    if (pins) decider.leave();
    stopping.store(true);
    scanner_stopping.store(true);
    eventfd_write(stop_event.get(), 1);
    for (std::thread& thread : answering) thread.join();
    keeper.beat().rest();
    last_resort.on_end(nullptr);
    groups.release_permission();
    scanner.wake();
    scanner_thread.join();
    {
      const std::lock_guard lock(wake_mutex);
    }
    woken.notify_all();
    replanner.wake();
    for (std::thread& thread : threads) thread.join();
  }

  // Also later: one that ran beside this one may have ended since, and left what guards were then.
  void take_over() {
    if (!pins || !settled.load()) return;
    const TakenOver over = pins->take_over();
    if (over.daemons == 0) return;
    decider.lose_heir();
    counters.exposed_away.add(over.counts[JANUS_AWAY_UNJUDGED]);
    counters.away_denied.add(over.counts[JANUS_AWAY_DENIED]);
    counters.away_refused.add(over.counts[JANUS_AWAY_REFUSED]);
    counters.away_deep.add(over.counts[JANUS_AWAY_DEEP]);
    counters.away_ns.add(over.away_ns);
    const std::lock_guard lock(over_mutex);
    untold_over.add(over);
  }

  void attend() {
    decider.beat(policy.get()->generation);
    take_over();
  }

  void settle() {
    decider.settle();
    settled.store(true);
  }

  void keep() {
    auto objects = programs.kept_links();
    std::ranges::move(decider.kept(), std::back_inserter(objects));
    try {
      pins.emplace(objects);
      if (pins->alone()) decider.settle();
    } catch (const Error& error) {
      say(std::string("janusd: what the kernel denies by itself will end with this process: ") + error.what() + "\n");
    }
  }

  // Threads show by name in ps -L and top -H.
  template <typename Body>
  std::thread named(const char* name, Body body) {
    return std::thread([this, name, body] {
      pthread_setname_np(pthread_self(), name);
      report_stack_overflow();
      // No error of one round may end the daemon, and with it every guard of the
      // node: a container may have caused it.
      while (true) {
        try {
          return body();
        } catch (const std::exception& error) {
          counters.thread_failures.add();
          const std::string line = std::string("janusd: thread \"") + name + "\": " + error.what() + "\n";
          say(line);
          std::this_thread::sleep_for(kAfterFailure);
        }
      }
    });
  }
  template <typename Body>
  void begin(const char* name, Body body) {
    threads.push_back(named(name, body));
  }

  // ---- waking JavaScript, coalesced ---------------------------------------

  // `now`: somebody waits for it.
  void wake(bool now = false) {
    {
      const std::lock_guard lock(wake_mutex);
      if (wake_wanted && (wake_now || !now)) return;
      wake_wanted = true;
      wake_now = wake_now || now;
    }
    woken.notify_one();
  }

  void deliver_wakes() {
    for (;;) {
      waker_heartbeat.beat();
      {
        std::unique_lock lock(wake_mutex);
        woken.wait_for(lock, std::chrono::milliseconds(kBeatMs), [this] { return stopping.load() || wake_wanted; });
        if (stopping.load()) return;
        // Whoever waits for it to be admitted does so only while JavaScript answers (Arrivals::take).
        if (!wake_wanted && !arrivals.is_on()) continue;
        if (wake_wanted) woken.wait_for(lock, kGather, [this] { return stopping.load() || wake_now; });
        wake_wanted = wake_now = false;
      }
      wake_javascript();
    }
  }

  // ---- following containers ------------------------------------------------

  void container_ended(std::uint64_t container) {
    std::string id;
    {
      const std::lock_guard lock(ended_mutex);
      if (const auto it = ids.find(container); it != ids.end()) {
        ended.push_back(it->second);
        ids.erase(it);
      }
    }
    replanner.ended(container);
    wake();
  }

  void plan_again(std::uint64_t container, const Replanner::Change& change) {
    if (change.ended) {
      scanner.sweep(planner.container_ended(container));
      eventfd_write(mounts_event.get(), 1);
      return;
    }
    if (!change.namespaces.empty()) {
      auto replan = planner.add_namespaces(container, change.namespaces);
      // Now: they may not have been held for long enough. The tracker lets those go
      // that it has marked for, maybe just now.
      const bool held = std::ranges::all_of(change.namespaces, [this](const auto& seen) {
        return holder.holds(seen.second) || marked_for(seen.first);
      });
      replanned(std::move(replan), held);
      for (const auto& [mnt_ns, tid] : change.namespaces) know(container, mnt_ns);
      eventfd_write(mounts_event.get(), 1);
    }
    if (!change.guards.empty()) scanner.queue(planner.replan_names(container, change.guards));
  }

  // Has the end of a container that is guarded now told.
  void follow(std::uint64_t container, const std::string& id) {
    {
      const std::lock_guard lock(ended_mutex);
      ids.emplace(container, id);
    }
    // The tracker drops it before it tells of its end, which may have been too early to be told here.
    if (!tracker.follows(container)) container_ended(container);
  }

  void track() {
    MountInfos mountinfos;
    while (!stopping.load()) {
      tracker_heartbeat.beat();
      std::vector<pollfd> fds = {{stop_event.get(), POLLIN, 0},
                                 {programs.records_fd(), POLLIN, 0},
                                 {mounts_event.get(), POLLIN, 0},
                                 {holder.fd(), POLLIN, 0},
                                 {keeper.fd(), POLLIN, 0},
                                 {arrivals.fd(), POLLIN, 0}};
      const std::size_t fixed = fds.size();
      std::vector<std::uint64_t> order;
      for (const auto& [where, fd] : mountinfos) {
        fds.push_back({fd.get(), POLLPRI, 0});
        order.push_back(where.container);
      }
      // Where opens wait for a look there is no hurry.
      const bool hurry = tracker.containers() > 0 && !holder.holds_opens();
      poll(fds.data(), fds.size(), hurry ? kLookMs : kBeatMs);
      if (fds[5].revents != 0 && arrivals.collect()) wake(true);
      tracker.drain();
      if (fds[3].revents != 0) holder.serve([this](const Holder::Held& held) { mark_for(held); });
      if (keeper.keep_running(holder.kept())) holder.answering();
      tracker.check_losses();
      std::set<std::uint64_t> changed;
      for (std::size_t i = 0; i < order.size(); ++i) {
        if (fds[i + fixed].revents == 0) continue;
        changed.insert(order[i]);
      }
      replan_each(changed);
      if (monotonic_ns() >= next_look || (!changed.empty() && holder.holds_opens())) {
        replan_each(std::exchange(again, {}));
        look();
        // Only the walk counts: what it led to, a container can make as long as it likes.
        next_look = monotonic_ns() + std::max<std::uint64_t>(kLookMs * 1'000'000ull, tracker.walk_ns() * kLookShare);
      }
      if (fds[2].revents != 0) follow_mounts(mountinfos);
    }
  }

  // Once a container, however many of its namespaces have changed. By the tracker,
  // after it has marked for those that are held: what is new then was not held.
  void replan_each(const std::set<std::uint64_t>& containers) {
    for (const std::uint64_t container : containers) {
      auto replan = planner.replan_container(container);
      if (replan.again) again.insert(container);
      replanned(std::move(replan), false);
    }
  }

  // `held`: whoever made the change stood still meanwhile, so there was no window.
  void replanned(MarkPlanner::Replan replan, bool held) {
    scanner.queue(std::move(replan.jobs));
    if (replan.changed && !held && !holder.holds_opens()) counters.exposed_mount.add();
    if (replan.rewatch) holder.watch(planner.watched());
  }

  // Opens don't wait for what is beyond the container's share: they are denied.
  void know(std::uint64_t container, std::uint64_t mnt_ns, std::optional<std::uint64_t> event = std::nullopt) {
    if (!holder.holds_opens() || planner.covers(container, mnt_ns)) holder.know(mnt_ns, event);
  }

  // Whether the tracker plans, or has planned, for somebody who is held in the namespace.
  bool marked_for(std::uint64_t mnt_ns) {
    const std::lock_guard lock(marked_mutex);
    return marked.contains(mnt_ns);
  }

  // Before it lets anybody go.
  void note_marked(std::uint64_t mnt_ns) {
    // Only those of the moment matter: who is told of a namespace plans for it soon.
    constexpr std::size_t kNamespaces = 4096;
    const std::lock_guard lock(marked_mutex);
    if (marked.size() >= kNamespaces) marked.clear();
    marked.insert(mnt_ns);
  }

  void mark_for(const Holder::Held& of) {
    if (of.left_out > 0) {
      refusals.add(of.container, "holds", of.left_out);
      counters.exposed_mount.add(of.left_out);
    }
    for (const janus_hold& hold : of.holds) note_marked(hold.held.mnt_ns);
    std::vector<Tracker::Namespace> seen;
    std::vector<std::pair<std::uint64_t, std::uint32_t>> namespaces;
    bool opens = false, plans = false, mounts = false;
    for (const janus_hold& hold : of.holds) {
      const janus_held& held = hold.held;
      if (held.cause == JANUS_HOLD_OPEN) {
        if (!std::exchange(opens, true)) seen = look();
        const auto lived_in = std::find_if(seen.begin(), seen.end(), [&](const auto& each) { return each.id == held.mnt_ns; });
        const bool marked = lived_in != seen.end() || mark_loose(held);
        if (lived_in != seen.end()) know(lived_in->container, lived_in->id, lived_in->event);
        if (!marked || !held.waits) counters.exposed_mount.add();
        continue;
      }
      plans = true;
      if (held.cause == JANUS_HOLD_NAMESPACE) namespaces.emplace_back(held.mnt_ns, held.pid);
      else mounts = true;
    }
    if (!plans) return;
    const auto held_now = [&](MarkPlanner::Replan replan) {
      // Now: they may not have been held for long enough.
      const bool all = std::ranges::all_of(of.holds, [this](const janus_hold& hold) { return holder.holds(hold.tgid); });
      replanned(std::move(replan), all);
    };
    if (!namespaces.empty()) held_now(planner.add_namespaces(of.container, namespaces));
    if (mounts) held_now(planner.replan_container(of.container));
    for (const janus_hold& hold : of.holds) know(of.container, hold.held.mnt_ns);
    eventfd_write(mounts_event.get(), 1);
  }

  // Of a mount that only descriptors lead to: it is in no namespace, or in one that
  // nobody lives in (which is never known: others of its mounts have no marks).
  bool mark_loose(const janus_held& held) {
    const auto found = planner.mark_loose(held.pid, held.mount_id);
    if (found.how == MarkPlanner::Loose::needless && held.mnt_ns == 0) holder.spare(found.device);
    else if (found.how != MarkPlanner::Loose::marked || held.mnt_ns != 0) holder.let_through(held.pid);
    return found.how != MarkPlanner::Loose::unreachable;
  }

  // Where opens wait for it: which state each namespace is in is read before its
  // mounts are, so that a change between the two is met by the next open.
  std::vector<Tracker::Namespace> look() {
    auto seen = tracker.look_for_namespaces();
    if (!holder.holds_opens()) return seen;
    replanner.finish();
    std::map<std::uint64_t, std::uint64_t> now;
    std::vector<Tracker::Namespace> changed;
    std::set<std::uint64_t> containers;
    for (const Tracker::Namespace& each : seen) {
      now.emplace(each.id, each.event);
      const auto before = states.find(each.id);
      if (before != states.end() && before->second == each.event) continue;
      changed.push_back(each);
      containers.insert(each.container);
    }
    for (const std::uint64_t container : containers) replanned(planner.replan_container(container), true);
    for (const Tracker::Namespace& each : changed) know(each.container, each.id, each.event);
    states.swap(now);
    return seen;
  }

  // A change of mounts makes its descriptor readable (POLLPRI, proc(5)).
  using MountInfos = std::map<MarkPlanner::Place, UniqueFd>;

  void follow_mounts(MountInfos& mountinfos) {
    eventfd_t ignored = 0;
    eventfd_read(mounts_event.get(), &ignored);
    const auto all = planner.places();
    const std::set<MarkPlanner::Place> places(all.begin(), all.end());
    std::erase_if(mountinfos, [&](const auto& item) { return !places.contains(item.first); });
    std::set<std::uint64_t> changed;
    for (const auto& place : places) {
      if (mountinfos.contains(place)) continue;
      try {
        mountinfos.emplace(place, place.process->open("mountinfo", O_RDONLY));
      } catch (const Error& error) {
        if (error.code != ErrorCode::not_found) counters.exposed_mount.add();  // its changes go untold
        continue;
      }
      // What changed between the first look and this open was not told.
      changed.insert(place.container);
    }
    replan_each(changed);
    holder.watch(planner.watched());
    if (holder.holds_opens()) look();
  }

  LastResort& last_resort;
  const Probe& probe;
  EngineCounters counters;
  Refusals refusals;
  PolicyBox policy;
  Groups groups;
  BpfPrograms programs;
  Canary canary;
  Tracker tracker;
  Decider decider;
  std::optional<Pins> pins;
  KernelRules kernel_rules;
  TreeWatch trees;
  IdentityTable identities;
  IgnoreLearner learner;
  MarkPlanner planner;
  Replanner replanner;
  NameWatch names;
  IdentityScanner scanner;
  Explainer explainer;
  Recorder recorder;
  KernelDenials kernel_denials;
  DirentObserver dirents;
  KeeperProcess keeper;
  Holder holder;
  Arrivals arrivals;
  Gate gate;
  Observer observer;
  const UniqueFd stop_event;
  const UniqueFd mounts_event;
  const std::function<void()> wake_javascript;
  Heartbeat tracker_heartbeat, waker_heartbeat;
  std::uint64_t next_look = 0;
  std::set<std::uint64_t> again;  // containers for which resources were short; the tracker's
  std::map<std::uint64_t, std::uint64_t> states;  // of mount namespaces, at the last look
  std::mutex marked_mutex;
  std::set<std::uint64_t> marked;  // mount namespaces, lately: see marked_for()
  std::mutex over_mutex;
  TakenOver untold_over;  // by whichever thread has looked
  std::mutex ended_mutex;
  std::map<std::uint64_t, std::string> ids;  // guarded containers
  std::vector<std::string> ended;
  std::mutex wake_mutex;
  std::condition_variable woken;
  bool wake_wanted = false, wake_now = false;
  std::atomic<bool> stopping{false};
  std::atomic<bool> settled{false};  // all guards of before are in place
  std::atomic<bool> scanner_stopping{false};
  std::thread scanner_thread;
  std::vector<std::thread> answering;  // the gate and its watchdog
  std::vector<std::thread> threads;
};

Engine::Engine(EngineOptions options, std::function<void()> wake)
    : options_(options), wake_(std::move(wake)), ring_(options.ring_bytes) {}

Engine::~Engine() { stop(); }

void Engine::start() {
  if (running_) throw Error(ErrorCode::invalid, "the engine runs already");
  report_faults();
  if (!last_resort_) last_resort_.emplace(kProcessEndLimit);
  running_ = std::make_unique<Running>(options_, ring_, *last_resort_, wake_);
  malloc_trim(0);  // libbpf has read the kernel's whole BTF
}

void Engine::stop() {
  if (!running_) return;
  last_resort_->within(kEndLimit);
  running_.reset();
  last_resort_->done();
}

Engine::Running& Engine::running() {
  if (!running_) throw Error(ErrorCode::invalid, "the engine does not run");
  return *running_;
}

ContainerInfo Engine::find_container(const std::string& id) { return running().tracker.find(id); }

std::vector<std::string> Engine::missing_containers(const std::vector<std::string>& ids) {
  return running().tracker.missing(ids);
}

std::vector<ContainerSummary> Engine::list_containers(bool all) {
  Running& parts = running();
  parts.tracker.drain();
  return Inspector(parts.programs, parts.tracker).containers(all);
}

std::vector<ProcessSummary> Engine::list_processes(const std::string& container) {
  Running& parts = running();
  return Inspector(parts.programs, parts.tracker).processes(container);
}

Explanation Engine::explain(const std::string& container, const std::string& path, FileEventKind kind, std::uint32_t pid) {
  Running& parts = running();
  parts.tracker.drain();
  return parts.explainer.explain(container, path, kind, pid);
}

std::shared_ptr<const Rehearsal> Engine::rehearse(const GuardSpec& guard) {
  Running& parts = running();
  return std::make_shared<const Rehearsal>(parts.programs, parts.groups, parts.decider, parts.tracker, guard);
}

std::optional<Rehearsal::Judged> Engine::judge_past(const Rehearsal& by, std::span<const std::uint8_t> record,
                                                    const std::string& container) {
  return by.judge(running().programs, record, container);
}

void Engine::apply(std::span<const GuardSpec> specs) {
  Running& all = running();
  all.take_over();
  all.kernel_denials.record();  // what was denied for those that are replaced
  const auto [jobs, devices, before, containers] = all.planner.apply(specs);
  // The guards are there, so nothing throws from here: a container that has ended
  // meanwhile is told of as any other that ends.
  for (const auto& [container, id] : containers) all.follow(container, id);
  all.holder.watch(all.planner.watched());
  eventfd_write(all.mounts_event.get(), 1);
  all.scanner.sweep(before);
  for (const ScanJob& job : jobs) all.scanner.scan(job);
  const bool dirents = std::ranges::any_of(specs, [](const GuardSpec& spec) {
    return std::ranges::any_of(spec.subjects, [](const SubjectSpec& on) { return !on.policy->watch.empty() && (on.policy->events & kDirentKinds) != 0; });
  });
  if (dirents) all.dirents.settle(devices, kDirentsLimit);
}

TakenOver Engine::take_over() {
  Running& all = running();
  if (!all.settled.load()) {
    all.settle();  // from now on others look, too
    all.take_over();
  }
  const std::lock_guard lock(all.over_mutex);
  return std::exchange(all.untold_over, {});
}

void Engine::hold_arrivals(bool on) {
  Running& all = running();
  all.arrivals.hold(on);
  malloc_trim(0);  // libbpf has read the kernel's whole BTF
  eventfd_write(all.mounts_event.get(), 1);  // the tracker is to listen to them
}

std::vector<Arrival> Engine::take_arrivals() { return running().arrivals.take(); }

bool Engine::admit(std::uint64_t container, bool guarded) { return running().arrivals.admit(container, guarded); }

int Engine::canary() { return running().canary.root(); }

bool Engine::remove(std::uint32_t key) {
  Running& all = running();
  bool existed = false;
  all.take_over();
  all.kernel_denials.record();  // what was denied for it until now
  const auto before = all.planner.remove(key, existed);
  all.scanner.sweep(before);
  std::set<Device> devices;
  for (const auto& each : before) devices.insert(each.first);
  if (all.dirents.marks() > 0) all.dirents.settle(devices, kDirentsLimit);
  all.holder.watch(all.planner.watched());
  return existed;
}

void Engine::retry(std::uint32_t key) {
  Running& all = running();
  const auto jobs = all.planner.retry(key);
  all.holder.watch(all.planner.watched());
  for (const ScanJob& job : jobs) all.scanner.scan(job);
}

std::vector<PathNote> Engine::path_notes(std::uint32_t key) { return running().planner.notes(key); }

std::vector<std::string> Engine::take_ended() {
  Running& all = running();
  all.tracker.drain();
  const std::lock_guard lock(all.ended_mutex);
  return std::exchange(all.ended, {});
}

std::size_t Engine::drain(std::span<std::uint8_t> into) { return ring_.drain(into); }

EngineVitals Engine::vitals() {
  Running& all = running();
  EngineVitals vitals;
  vitals.programs = all.programs.attached();
  std::ranges::copy(all.holder.attached(), std::back_inserter(vitals.programs));
  std::ranges::copy(all.arrivals.attached(), std::back_inserter(vitals.programs));
  std::ranges::copy(all.decider.attached(), std::back_inserter(vitals.programs));
  vitals.ring = {ring_.capacity(), ring_.used(), ring_.written()};
  const auto milliseconds = [](const Heartbeat& beat) { return static_cast<double>(beat.age_ns()) / 1e6; };
  vitals.heartbeat_ms = {{"gate", milliseconds(all.gate.heartbeat())},
                         {"observer", milliseconds(all.observer.heartbeat())},
                         {"dirents", milliseconds(all.dirents.heartbeat())},
                         {"planner", milliseconds(all.replanner.heartbeat())},
                         {"mounts", milliseconds(all.planner.mounts_heartbeat())},
                         {"scanner", milliseconds(all.scanner.heartbeat())},
                         {"waker", milliseconds(all.waker_heartbeat)},
                         {"last_resort", milliseconds(all.last_resort.heartbeat())},
                         {"tracker", milliseconds(all.tracker_heartbeat)},
                         {"watchdog", milliseconds(all.gate.watchdog_heartbeat())}};
  if (all.decider.works()) vitals.heartbeat_ms.emplace("denials", milliseconds(all.kernel_denials.heartbeat()));
  return vitals;
}

EngineTroubles Engine::troubles() {
  Running& all = running();
  EngineTroubles troubles;
  const EngineCounters& counters = all.counters;
  troubles.losses = {{"ring_full", ring_.dropped()},
                     {"kernel_queue_overflow", counters.kernel_queue_overflow.get()},
                     {"dirent_queue", counters.dirents_lost.get()},
                     {"bpf_ring_full", all.programs.counter(JANUS_COUNT_RING_FULL)}};
  troubles.exposure = {{"queue_overflow", counters.exposed_overflow.get()},
                       {"deadline", counters.exposed_deadline.get()},
                       {"directory_moved", counters.exposed_move.get()},
                       {"unreadable", counters.exposed_unreadable.get()},
                       {"identity_limit", counters.exposed_identity.get()},
                       {"scan_pending", counters.exposed_scan.get()},
                       {"unresolved_path", counters.exposed_rescan.get()},
                       {"mount_changed", counters.exposed_mount.get()},
                       {"mount_limit", counters.exposed_mount_limit.get()},
                       {"served_elsewhere", counters.exposed_served.get()},
                       {"hold_expired", all.holder.counter(JANUS_HOLD_COUNT_EXPIRED)},
                       {"pod_unknown", all.arrivals.stats().unknown},
                       {"path_changed", counters.exposed_path.get()},
                       {"stalled", counters.exposed_stall.get()},
                       {"away", counters.exposed_away.get()},
                       {"program_busy", all.decider.missed()},
                       {"thread_failed", counters.thread_failures.get()}};
  troubles.full = all.programs.full();
  troubles.full.merge(all.decider.full());
  troubles.refused = all.refusals.all();
  return troubles;
}

EngineStats Engine::stats() {
  Running& all = running();
  EngineStats stats;
  const EngineCounters& counters = all.counters;
  stats.asked = {{"guarded", counters.asked_guarded.get()},
                 {"unguarded", counters.asked_unguarded.get()},
                 {"canary", counters.asked_canary.get()},
                 {"self", counters.asked_self.get()},
                 {"unplanned", counters.asked_unplanned.get()},
                 {"late", counters.exposed_deadline.get()}};
  stats.unwatched = {{"late", counters.dirents_late.get()},
                     {"unknown", counters.dirents_unknown.get()},
                     {"limit", counters.dirents_limit.get()}};
  const auto marks = all.planner.mark_counts();
  stats.marks = {{"superblock", marks.superblock},
                 {"mount", marks.mount},
                 {"identity", all.identities.size()},
                 {"watch", all.names.marks()},
                 {"dirents", all.dirents.marks()},
                 {"ignore", all.learner.marks()}};
  stats.scans_pending = all.scanner.pending();
  stats.containers = all.tracker.containers();
  stats.processes = all.tracker.processes();
  stats.maps = all.programs.maps();
  std::ranges::copy(all.holder.maps(), std::back_inserter(stats.maps));
  std::ranges::copy(all.arrivals.maps(), std::back_inserter(stats.maps));
  std::ranges::copy(all.decider.maps(), std::back_inserter(stats.maps));
  stats.bpf_records = all.programs.counter(JANUS_COUNT_RECORDS);
  stats.bpf_ring_peak = all.programs.ring_peak();
  stats.hold_tier = all.holder.tier();
  stats.kernel_decides = all.decider.works();
  stats.kernel_alone = all.decider.works() && !all.decider.may_miss();
  stats.kept = all.pins.has_value();
  stats.away = {{"denied", counters.away_denied.get()},
                {"too_deep", counters.away_deep.get()},
                {"unjudged", counters.exposed_away.get()},
                {"refused", counters.away_refused.get()}};
  stats.away_seconds = static_cast<double>(counters.away_ns.get()) / 1e9;
  stats.holds = {{"held", all.holder.counter(JANUS_HOLD_COUNT_HELD)},
                 {"skipped", all.holder.counter(JANUS_HOLD_COUNT_SKIPPED)},
                 {"expired", all.holder.counter(JANUS_HOLD_COUNT_EXPIRED)},
                 {"denied", all.holder.counter(JANUS_HOLD_COUNT_DENIED)}};
  stats.arrivals = all.arrivals.stats();
  stats.urgent = {{"gate", all.gate.urgency().is_urgent()}, {"watchdog", all.gate.watchdog_urgency().is_urgent()}};
  return stats;
}

void Engine::each_counts(const std::function<void(std::uint32_t, const SubjectCounts&)>& visit) {
  running().planner.each_counts(visit);
}

}  // namespace janus

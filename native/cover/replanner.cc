#include "cover/replanner.h"

#include <sys/eventfd.h>

#include <algorithm>

namespace janus {

Replanner::Replanner(Plan plan) : plan_(std::move(plan)), planned_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

template <typename Add>
void Replanner::add(std::uint64_t container, Add add) {
  const auto [it, is_new] = waiting_.try_emplace(container);
  if (is_new) {
    it->second.turn = ++turn_;
    order_.push_back(container);
  }
  add(it->second.change);
}

void Replanner::names_changed(const std::set<NameOwner>& owners) {
  {
    const std::lock_guard lock(mutex_);
    for (const NameOwner& owner : owners)
      add(owner.container, [&](Change& change) {
        if (change.guards.empty()) names_.fetch_add(1, std::memory_order_relaxed);
        change.guards.insert(owner.guard);
      });
  }
  changed_.notify_all();
}

void Replanner::namespace_seen(std::uint64_t container, std::uint32_t tid, std::uint64_t mnt_ns) {
  {
    const std::lock_guard lock(mutex_);
    add(container, [&](Change& change) { change.namespaces.emplace_back(mnt_ns, tid); });
  }
  changed_.notify_all();
}

void Replanner::ended(std::uint64_t container) {
  {
    const std::lock_guard lock(mutex_);
    add(container, [](Change& change) { change.ended = true; });
  }
  changed_.notify_all();
}

std::vector<Replanner::Ticket> Replanner::concerns(std::span<const std::uint64_t> containers) const {
  std::vector<Ticket> tickets;
  const std::lock_guard lock(mutex_);
  for (const std::uint64_t container : containers) {
    const auto it = waiting_.find(container);
    if ((it != waiting_.end() && !it->second.change.guards.empty()) || (working_names_ && working_.container == container))
      tickets.push_back({container, turn_});
  }
  return tickets;
}

// A change that came after the ticket doesn't matter: what it is part of began later.
bool Replanner::is_open(const Ticket& ticket) const {
  if (working_.turn != 0 && working_.container == ticket.container && working_.turn <= ticket.turn) return true;
  const auto it = waiting_.find(ticket.container);
  return it != waiting_.end() && it->second.turn <= ticket.turn;
}

bool Replanner::is_planned(std::span<const Ticket> tickets) const {
  const std::lock_guard lock(mutex_);
  return std::none_of(tickets.begin(), tickets.end(), [this](const Ticket& ticket) { return is_open(ticket); });
}

void Replanner::take_planned() const {
  eventfd_t ignored = 0;
  eventfd_read(planned_.get(), &ignored);
}

void Replanner::finish() const {
  std::unique_lock lock(mutex_);
  std::vector<Ticket> all;
  if (working_.turn != 0) all.push_back({working_.container, turn_});
  for (const std::uint64_t container : order_) all.push_back({container, turn_});
  changed_.wait(lock, [&] {
    return stopped_ || std::none_of(all.begin(), all.end(), [this](const Ticket& ticket) { return is_open(ticket); });
  });
}

void Replanner::run(const std::atomic<bool>& stop) {
  // Also when planning throws.
  struct Done {
    Replanner& self;
    ~Done() {
      {
        const std::lock_guard lock(self.mutex_);
        if (self.working_names_) self.names_.fetch_sub(1, std::memory_order_release);
        self.working_ = {};
        self.working_names_ = false;
      }
      self.changed_.notify_all();
      eventfd_write(self.planned_.get(), 1);
    }
  };
  while (!stop.load(std::memory_order_relaxed)) {
    heartbeat_.beat();
    Change change;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(kBeatMs), [&] { return stop.load() || !order_.empty(); });
      if (stop.load() || order_.empty()) continue;
      const auto it = waiting_.find(order_.front());
      order_.pop_front();
      working_ = {it->first, it->second.turn};
      change = std::move(it->second.change);
      working_names_ = !change.guards.empty();
      waiting_.erase(it);
    }
    const Done done{*this};
    plan_(working_.container, change);
  }
}

void Replanner::wake() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
}

}  // namespace janus

// What a superblock's rules deny to a container whatever else is asked: what the kernel may
// deny by itself (bpf/decide.bpf.c). And what they might deny besides, which only the gate can say.
//
// Owns: which rules are plain, and what could speak against them. Of what is certain it says less
// than SuperblockPolicy::decide() rather than more: a rule that depends on more than the object's
// place, the event and the actor is left out, with all that it could overrule. Of what is not, more
// rather than less.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/policy.h"

namespace janus {

enum class ToWhom : std::uint8_t { anybody, others };  // others: all but owners
// What the kernel denies: opens, then changes. Denials of changes add up: no rule takes another's back.
inline constexpr std::array kCertainKinds = {FileEventKind::open,     FileEventKind::exec,      FileEventKind::create,
                                             FileEventKind::remove,   FileEventKind::movedfrom, FileEventKind::movedto,
                                             FileEventKind::attrib,   FileEventKind::link,      FileEventKind::truncate,
                                             FileEventKind::write};
inline constexpr std::size_t kOpens = 2;  // of those
inline constexpr std::array kAskedKinds = {FileEventKind::open, FileEventKind::exec, FileEventKind::access};

struct CertainDenial {
  // How far: the object itself; what a directory holds directly; what is below that. Each
  // includes those before it. Null: nothing.
  enum Reach : std::uint8_t { none, itself, entries, deeper };
  struct Ruling {
    std::shared_ptr<const Entry> entry;
    Reach reach = none;
  };
  using Rulings = std::array<Ruling, 2>;  // [ToWhom]
  std::uint64_t container = 0;            // to its processes only
  std::array<Rulings, kOpens> opens{};    // of kCertainKinds
  std::vector<Rulings> changes{};         // ... the others; empty: none is denied, as of most
  // What may be denied besides: bit n is what a reach of n + 1 has more than one of n.
  std::array<std::array<std::uint8_t, 2>, kAskedKinds.size()> asked{};  // [kind][ToWhom]

  bool empty() const { return !concerns_opens() && changes.empty(); }
  bool concerns_opens() const;
  const Rulings& of(std::size_t kind) const;
  // Whichever reaches further stays.
  void add(std::size_t kind, std::size_t whom, const Ruling& ruling);
};

class CertainDenials {
 public:
  explicit CertainDenials(std::shared_ptr<const SuperblockPolicy> table);

  // Of an object at this path, one for each container that is denied anything.
  std::vector<CertainDenial> of(std::string_view path, bool directory) const;

  // Whether all rules deny, each for a container's own processes, and where they deny depends on place, event
  // and actor alone. If then nothing is `asked` at the rules' own paths, all that is denied anywhere is certain.
  bool plain() const { return plain_ && !audited_; }

  const SuperblockPolicy* table() const { return table_.get(); }

 private:
  // Paths at which a guard says something else than a plain denial, in order.
  struct Doubts {
    std::vector<std::string> allowed;  // to anybody, maybe
    std::vector<std::string> owners;   // denied to all but owners
  };
  static bool any_at(const std::vector<std::string>& paths, std::string_view path);
  static bool any_below(const std::vector<std::string>& paths, std::string_view path);
  // ... of what a reach of so much has left certain.
  CertainDenial::Reach spoilt(const Entry& entry, std::string_view path, std::string_view at, CertainDenial::Reach reach) const;

  const std::shared_ptr<const SuperblockPolicy> table_;
  bool plain_ = true;
  bool audited_ = false;  // something leaves traces in the kernel's audit log: nothing is certain
  std::unordered_map<std::uint32_t, Doubts> doubts_;  // by guard
};

}  // namespace janus

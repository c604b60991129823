#include "ebpf/attachments.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

namespace janus {
namespace {

// The kernel's number of the link or program behind a descriptor. 0: there is none.
std::uint32_t id_of(int fd, bool link) {
  bpf_link_info link_info{};
  bpf_prog_info program_info{};
  std::uint32_t size = link ? sizeof(link_info) : sizeof(program_info);
  void* const info = link ? static_cast<void*>(&link_info) : &program_info;
  if (bpf_obj_get_info_by_fd(fd, info, &size) != 0) return 0;
  return link ? link_info.id : program_info.id;
}

}  // namespace

void Attachments::add(const bpf_object_skeleton& skeleton) {
  for (int i = 0; i < skeleton.prog_cnt; ++i) {
    // libbpf's structs may be longer than those that we know.
    const auto* at = reinterpret_cast<const char*>(skeleton.progs) + i * skeleton.prog_skel_sz;
    const auto& program = *reinterpret_cast<const bpf_prog_skeleton*>(at);
    if (bpf_program__fd(*program.prog) < 0) continue;
    const bool link = program.link != nullptr && *program.link != nullptr;
    const int fd = link ? bpf_link__fd(*program.link) : bpf_program__fd(*program.prog);
    all_.push_back({program.name, bpf_program__fd(*program.prog), fd, link, id_of(fd, link)});
  }
}

std::vector<std::string> Attachments::present() const {
  std::vector<std::string> names;
  for (const One& one : all_)
    if (one.id != 0 && id_of(one.fd, one.link) == one.id) names.push_back(one.name);
  return names;
}

std::uint64_t Attachments::missed() const {
  std::uint64_t missed = 0;
  for (const One& one : all_) {
    bpf_prog_info info{};
    std::uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(one.program_fd, &info, &size) == 0) missed += info.recursion_misses;
  }
  return missed;
}

}  // namespace janus

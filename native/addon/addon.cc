// The border to JavaScript: src/native.ts describes what is here.
//
// Owns: one Engine a JavaScript object; stopped by stop(), by garbage
// collection or by the environment's end, whichever comes first. Arguments come
// from our own TypeScript, typed there; a wrong one is a TypeError.
#include <napi.h>

#include <malloc.h>
#include <sys/file.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>

#include "engine.h"
#include "os/clock.h"
#include "os/error.h"
#include "os/peer.h"
#include "policy/glob.h"
#include "record/file_event.h"
#include "ebpf/kept.h"
#include "ebpf/pins.h"
#include "ebpf/probe.h"
#include "addon/wake.h"

namespace janus {
namespace {

// ---- errors -----------------------------------------------------------------

const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::not_found:
      return "NOT_FOUND";
    case ErrorCode::ambiguous:
      return "AMBIGUOUS";
    case ErrorCode::invalid:
      return "INVALID";
    case ErrorCode::unsupported:
      return "UNSUPPORTED";
    case ErrorCode::exhausted:
      return "EXHAUSTED";
    case ErrorCode::system:
      return "SYSTEM";
  }
  return "SYSTEM";
}

Napi::Error to_javascript(Napi::Env env, const Error& error) {
  Napi::Error out = Napi::Error::New(env, error.what());
  out.Set("code", Napi::String::New(env, name_of(error.code)));
  if (error.number != 0) out.Set("errno", Napi::Number::New(env, error.number));
  if (!error.operation.empty()) out.Set("operation", Napi::String::New(env, error.operation));
  if (!error.target.empty()) out.Set("target", Napi::String::New(env, error.target));
  if (error.guard != 0) out.Set("guardKey", Napi::Number::New(env, error.guard));
  if (error.subject_index >= 0) out.Set("subjectIndex", Napi::Number::New(env, error.subject_index));
  if (!error.path.empty()) out.Set("path", Napi::String::New(env, error.path));
  return out;
}

// Runs `body`; what it throws becomes a NativeError.
template <typename Body>
auto guarded(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    throw to_javascript(env, error);
  } catch (const std::system_error& error) {  // no thread, for example
    throw to_javascript(env, Error::system(error.code().value(), "make", error.what()));
  } catch (const std::bad_alloc&) {
    throw to_javascript(env, Error::system(ENOMEM, "allocate", "memory"));
  }
}

// ---- values -----------------------------------------------------------------

template <typename Map>
Napi::Object object_of(Napi::Env env, const Map& map) {
  Napi::Object out = Napi::Object::New(env);
  for (const auto& [key, value] : map) out.Set(key, Napi::Number::New(env, static_cast<double>(value)));
  return out;
}

Napi::Number milliseconds_of(Napi::Env env, std::uint64_t ns) {
  return Napi::Number::New(env, static_cast<double>(ns / 1'000'000));
}

std::vector<std::string> strings_of(const Napi::Value& value) {
  std::vector<std::string> out;
  const auto array = value.As<Napi::Array>();
  for (std::uint32_t i = 0; i < array.Length(); ++i) out.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  return out;
}

Napi::Array array_of(Napi::Env env, const std::vector<std::string>& strings) {
  Napi::Array out = Napi::Array::New(env, strings.size());
  for (std::uint32_t i = 0; i < strings.size(); ++i) out.Set(i, Napi::String::New(env, strings[i]));
  return out;
}

std::shared_ptr<const SubjectPolicy> policy_of(const Napi::Object& from) {
  const auto number = [&](const char* key) { return from.Get(key).As<Napi::Number>().Uint32Value(); };
  const auto flag = [&](const char* key) { return from.Get(key).As<Napi::Boolean>().Value(); };
  return std::make_shared<const SubjectPolicy>(SubjectPolicy{.allow = strings_of(from.Get("allow")),
                                                             .deny = strings_of(from.Get("deny")),
                                                             .watch = strings_of(from.Get("watch")),
                                                             .exclude = strings_of(from.Get("exclude")),
                                                             .events = number("events"),
                                                             .max_depth = number("maxDepth"),
                                                             .only_dir = flag("onlyDir"),
                                                             .auto_allow_owner = flag("autoAllowOwner"),
                                                             .audit = flag("audit"),
                                                             .recursive = flag("recursive"),
                                                             .only_container = flag("onlyContainer"),
                                                             .exact = flag("exact"),
                                                             .enforced = flag("enforced")});
}

GuardSpec guard_of(const Napi::Object& from) {
  GuardSpec spec{.key = from.Get("key").As<Napi::Number>().Uint32Value(),
                 .subjects = {},
                 .partial = from.Get("partial").As<Napi::Boolean>().Value()};
  std::vector<std::shared_ptr<const SubjectPolicy>> policies;
  const auto said = from.Get("policies").As<Napi::Array>();
  for (std::uint32_t i = 0; i < said.Length(); ++i) policies.push_back(policy_of(said.Get(i).As<Napi::Object>()));
  const auto subjects = from.Get("subjects").As<Napi::Array>();
  for (std::uint32_t i = 0; i < subjects.Length(); ++i) {
    const auto subject = subjects.Get(i).As<Napi::Object>();
    spec.subjects.push_back({.id = subject.Get("id").As<Napi::Number>().Uint32Value(),
                             .container_id = subject.Get("containerId").As<Napi::String>().Utf8Value(),
                             .policy = policies.at(subject.Get("policy").As<Napi::Number>().Uint32Value())});
  }
  return spec;
}

Napi::Object arrivals_of(Napi::Env env, const Arrivals::Stats& stats) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("outcomes", object_of(env, std::map<std::string, std::uint64_t>{
                                         {"admitted", stats.admitted}, {"expired", stats.expired}, {"unheld", stats.unheld}}));
  Napi::Array waited = Napi::Array::New(env, stats.waited.size());
  for (std::uint32_t i = 0; i < stats.waited.size(); ++i)
    waited.Set(i, Napi::Number::New(env, static_cast<double>(stats.waited[i])));
  out.Set("waited", waited);
  out.Set("waitedSeconds", Napi::Number::New(env, static_cast<double>(stats.waited_ns) / 1e9));
  return out;
}

HoldMode hold_mode_of(const std::string& name) {
  if (name == "off") return HoldMode::off;
  if (name == "scheduler") return HoldMode::scheduler;
  return name == "syscalls" ? HoldMode::syscalls : HoldMode::automatic;
}

Napi::Object explanation_of(Napi::Env env, const Explanation& said) {
  constexpr const char* kActions[] = {"allow", "deny", "watch"};
  constexpr const char* kWho[] = {"container", "owner", "node", "process"};
  constexpr const char* kBearings[] = {"applies",     "shadowed", "otherEvent", "otherActor", "onlyDirectories", "tooDeep", "excluded"};
  const auto flag = [&](bool value) { return Napi::Boolean::New(env, value); };
  const auto action = [&](Action of) { return kActions[static_cast<std::size_t>(of)]; };
  Napi::Object out = Napi::Object::New(env);
  out.Set("container", said.container);
  out.Set("seen", said.seen);
  out.Set("exists", flag(said.exists));
  out.Set("directory", flag(said.directory));
  out.Set("symlink", flag(said.symlink));
  out.Set("links", Napi::Number::New(env, said.links));
  out.Set("fileSystem", said.file_system);
  out.Set("judgedAs", array_of(env, said.judged_as));
  Napi::Array rules = Napi::Array::New(env, said.lines.size());
  for (std::uint32_t i = 0; i < said.lines.size(); ++i) {
    const Explanation::Line& line = said.lines[i];
    Napi::Object item = Napi::Object::New(env);
    item.Set("subjectId", Napi::Number::New(env, line.subject));
    item.Set("action", action(line.action));
    item.Set("path", line.path);
    item.Set("bearing", kBearings[static_cast<std::size_t>(line.bearing)]);
    item.Set("answered", flag(line.answered));
    rules.Set(i, item);
  }
  out.Set("rules", rules);
  Napi::Array verdicts = Napi::Array::New(env, said.answers.size());
  for (std::uint32_t i = 0; i < said.answers.size(); ++i) {
    const Explanation::Answer& answer = said.answers[i];
    Napi::Object item = Napi::Object::New(env);
    item.Set("who", kWho[static_cast<std::size_t>(answer.who)]);
    item.Set("judged", flag(answer.judged));
    item.Set("answered", flag(answer.answered));
    item.Set("response", Napi::Number::New(env, static_cast<double>(answer.response)));
    item.Set("owner", flag(answer.owner));
    item.Set("anything", flag(answer.anything));
    item.Set("subjectId", Napi::Number::New(env, answer.subject));
    item.Set("action", action(answer.action));
    item.Set("path", answer.path);
    Napi::Array others = Napi::Array::New(env, answer.others.size());
    for (std::uint32_t at = 0; at < answer.others.size(); ++at) others.Set(at, Napi::Number::New(env, answer.others[at]));
    item.Set("otherIds", others);
    verdicts.Set(i, item);
  }
  out.Set("verdicts", verdicts);
  Napi::Object cover = Napi::Object::New(env);
  cover.Set("identity", flag(said.cover.identity));
  cover.Set("superblock", flag(said.cover.superblock));
  cover.Set("mount", flag(said.cover.mount));
  cover.Set("told", flag(said.cover.told));
  cover.Set("ignored", flag(said.cover.ignored));
  cover.Set("never", said.cover.never);
  out.Set("cover", cover);
  return out;
}

// ---- the engine ---------------------------------------------------------------

class JsEngine : public Napi::ObjectWrap<JsEngine> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Engine",
                       {InstanceMethod<&JsEngine::start>("start"), InstanceMethod<&JsEngine::stop>("stop"),
                        InstanceMethod<&JsEngine::find_container>("findContainer"),
                        InstanceMethod<&JsEngine::missing_containers>("missingContainers"),
                        InstanceMethod<&JsEngine::list_containers>("listContainers"),
                        InstanceMethod<&JsEngine::list_processes>("listProcesses"),
                        InstanceMethod<&JsEngine::explain>("explain"),
                        InstanceMethod<&JsEngine::rehearse>("rehearse"),
                        InstanceMethod<&JsEngine::judge_past>("judgePast"),
                        InstanceMethod<&JsEngine::apply>("apply"), InstanceMethod<&JsEngine::remove>("remove"),
                        InstanceMethod<&JsEngine::canary>("canary"),
                        InstanceMethod<&JsEngine::take_over>("takeOver"),
                        InstanceMethod<&JsEngine::hold_arrivals>("holdArrivals"),
                        InstanceMethod<&JsEngine::take_arrivals>("takeArrivals"),
                        InstanceMethod<&JsEngine::admit>("admit"),
                        InstanceMethod<&JsEngine::retry>("retry"),
                        InstanceMethod<&JsEngine::path_notes>("pathNotes"),
                        InstanceMethod<&JsEngine::take_ended>("takeEnded"), InstanceMethod<&JsEngine::drain>("drain"),
                        InstanceMethod<&JsEngine::vitals>("vitals"),
                        InstanceMethod<&JsEngine::troubles>("troubles"), InstanceMethod<&JsEngine::stats>("stats")});
  }

  explicit JsEngine(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsEngine>(info) {
    const auto from = info[0].As<Napi::Object>();
    const auto number = [&](const char* key) { return from.Get(key).As<Napi::Number>().Int64Value(); };
    const EngineOptions options{.ring_bytes = static_cast<std::size_t>(number("ringBytes")),
                                .deadline = std::chrono::milliseconds(number("deadlineMs")),
                                .identity_limit = static_cast<std::size_t>(number("identityLimit")),
                                .ignore_limit = static_cast<std::size_t>(number("ignoreLimit")),
                                .ignore_after = static_cast<std::size_t>(number("ignoreAfter")),
                                .hold = hold_mode_of(from.Get("hold").As<Napi::String>().Utf8Value()),
                                .version = from.Get("version").As<Napi::String>().Utf8Value(),
                                .kernel_decides = from.Get("kernelDecides").As<Napi::Boolean>().Value(),
                                .keep = from.Get("keep").As<Napi::Boolean>().Value(),
                                .away_denies = from.Get("away").As<Napi::String>().Utf8Value() == "deny",
                                .hold_limit = std::chrono::milliseconds(number("holdLimitMs")),
                                .pod_wait = std::chrono::milliseconds(number("podWaitMs")),
                                .keeper = {.stall_limit = std::chrono::milliseconds(number("stallLimitMs")),
                                           .stall_file = from.Get("stallFile").As<Napi::String>().Utf8Value(),
                                           .cgroup = from.Get("keeperCgroup").As<Napi::String>().Utf8Value()},
                                .stalls = static_cast<std::uint64_t>(number("stalls"))};
    wake_ = std::make_unique<Wake>(info.Env(), info[1].As<Napi::Function>());
    engine_ = std::make_unique<Engine>(options, [this] { wake_->call(); });
    // Before the environment goes its threads must not call into it any more.
    napi_add_env_cleanup_hook(info.Env(), &JsEngine::at_exit, this);
  }

  ~JsEngine() override {
    napi_remove_env_cleanup_hook(Env(), &JsEngine::at_exit, this);
    shut_down();
  }

 private:
  static void at_exit(void* self) { static_cast<JsEngine*>(self)->shut_down(); }

  void shut_down() {
    wake_->release();
    engine_->stop();
  }

  void start(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { engine_->start(); });
  }

  void stop(const Napi::CallbackInfo&) { shut_down(); }

  Napi::Value find_container(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const ContainerInfo found =
        guarded(env, [&] { return engine_->find_container(info[0].As<Napi::String>().Utf8Value()); });
    Napi::Object out = Napi::Object::New(env);
    out.Set("id", found.id);
    out.Set("cgroupId", Napi::BigInt::New(env, found.cgroup));
    out.Set("cgroupPath", found.cgroup_path);
    out.Set("initPid", Napi::Number::New(env, found.init_pid));
    Napi::Array pids = Napi::Array::New(env, found.pids.size());
    for (std::uint32_t i = 0; i < found.pids.size(); ++i) pids.Set(i, Napi::Number::New(env, found.pids[i]));
    out.Set("pids", pids);
    return out;
  }

  Napi::Value missing_containers(const Napi::CallbackInfo& info) {
    const std::vector<std::string> ids = strings_of(info[0]);
    return array_of(info.Env(), guarded(info.Env(), [&] { return engine_->missing_containers(ids); }));
  }

  Napi::Value list_containers(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto found = guarded(env, [&] { return engine_->list_containers(info[0].As<Napi::Boolean>().Value()); });
    Napi::Array out = Napi::Array::New(env, found.size());
    for (std::uint32_t i = 0; i < found.size(); ++i) {
      Napi::Object item = Napi::Object::New(env);
      item.Set("id", found[i].id);
      item.Set("cgroupPath", found[i].cgroup_path);
      item.Set("hierarchy", Napi::Number::New(env, found[i].hierarchy));
      item.Set("firstPid", Napi::Number::New(env, found[i].first_pid));
      item.Set("startedMs", milliseconds_of(env, found[i].started_ns));
      item.Set("processes", Napi::Number::New(env, static_cast<double>(found[i].processes)));
      out.Set(i, item);
    }
    return out;
  }

  Napi::Value list_processes(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto found =
        guarded(env, [&] { return engine_->list_processes(info[0].As<Napi::String>().Utf8Value()); });
    Napi::Array out = Napi::Array::New(env, found.size());
    for (std::uint32_t i = 0; i < found.size(); ++i) {
      Napi::Object item = Napi::Object::New(env);
      item.Set("pid", Napi::Number::New(env, found[i].pid));
      item.Set("ppid", Napi::Number::New(env, found[i].ppid));
      item.Set("uid", Napi::Number::New(env, found[i].uid));
      item.Set("startedMs", milliseconds_of(env, found[i].started_ns));
      item.Set("mountNamespace", Napi::BigInt::New(env, found[i].mnt_ns));
      item.Set("comm", found[i].comm);
      item.Set("executable", found[i].exe);
      item.Set("init", (found[i].flags & JANUS_TASK_INIT) != 0);
      item.Set("child", (found[i].flags & JANUS_TASK_CHILD) != 0);
      out.Set(i, item);
    }
    return out;
  }

  Napi::Value canary(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), guarded(info.Env(), [&] { return engine_->canary(); }));
  }

  Napi::Value take_over(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const TakenOver over = guarded(env, [&] { return engine_->take_over(); });
    Napi::Object out = object_of(env, std::map<std::string, std::uint64_t>{{"daemons", over.daemons},
                                                                           {"denied", over.counts[JANUS_AWAY_DENIED]},
                                                                           {"unjudged", over.counts[JANUS_AWAY_UNJUDGED]},
                                                                           {"refused", over.counts[JANUS_AWAY_REFUSED]}});
    out.Set("awayMs", Napi::Number::New(env, static_cast<double>(over.away_ns / 1'000'000)));
    Napi::Array layouts = Napi::Array::New(env);
    for (const std::uint32_t layout : over.layouts) layouts.Set(layouts.Length(), Napi::Number::New(env, layout));
    out.Set("layouts", layouts);
    return out;
  }

  Napi::Value explain(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto number = [&](std::size_t at) { return info[at].As<Napi::Number>().Uint32Value(); };
    return explanation_of(env, guarded(env, [&] {
      return engine_->explain(info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::String>().Utf8Value(),
                              static_cast<FileEventKind>(number(2)), number(3));
    }));
  }

  Napi::Value rehearse(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    using Held = std::shared_ptr<const Rehearsal>;
    auto rehearsal = guarded(env, [&] { return std::make_unique<Held>(engine_->rehearse(guard_of(info[0].As<Napi::Object>()))); });
    Napi::Array faults = Napi::Array::New(env);
    for (const auto& [path, reason] : (*rehearsal)->faults()) {
      Napi::Object fault = Napi::Object::New(env);
      fault.Set("path", path);
      fault.Set("reason", reason);
      faults.Set(faults.Length(), fault);
    }
    Napi::Object out = Napi::Object::New(env);
    out.Set("tables", Napi::External<Held>::New(env, rehearsal.release(), [](Napi::Env, Held* held) { delete held; }));
    out.Set("faults", faults);
    return out;
  }

  Napi::Value judge_past(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto& by = *info[0].As<Napi::External<std::shared_ptr<const Rehearsal>>>().Data();
    const auto record = info[1].As<Napi::Uint8Array>();
    const auto judged = guarded(env, [&] {
      return engine_->judge_past(*by, {record.Data(), record.ByteLength()}, info[2].As<Napi::String>().Utf8Value());
    });
    if (!judged) return env.Undefined();
    Napi::Object out = Napi::Object::New(env);
    out.Set("response", Napi::Number::New(env, static_cast<double>(judged->response)));
    out.Set("assumed", Napi::Boolean::New(env, judged->assumed));
    return out;
  }

  void apply(const Napi::CallbackInfo& info) {
    const auto from = info[0].As<Napi::Array>();
    std::vector<GuardSpec> specs;
    for (std::uint32_t i = 0; i < from.Length(); ++i) specs.push_back(guard_of(from.Get(i).As<Napi::Object>()));
    guarded(info.Env(), [&] { engine_->apply(specs); });
  }

  void hold_arrivals(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { engine_->hold_arrivals(info[0].As<Napi::Boolean>().Value()); });
  }

  Napi::Value take_arrivals(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto taken = guarded(env, [&] { return engine_->take_arrivals(); });
    const std::uint64_t now = monotonic_ns();
    Napi::Array out = Napi::Array::New(env, taken.size());
    for (std::uint32_t i = 0; i < taken.size(); ++i) {
      Napi::Object item = Napi::Object::New(env);
      item.Set("cgroupId", Napi::BigInt::New(env, taken[i].container));
      item.Set("containerId", taken[i].container_id);
      item.Set("podUid", taken[i].pod_uid);
      item.Set("cgroupPath", taken[i].cgroup_path);
      item.Set("pid", Napi::Number::New(env, taken[i].pid));
      item.Set("heldMs", Napi::Number::New(env, static_cast<double>(now - taken[i].since_ns) / 1e6));
      item.Set("held", Napi::Boolean::New(env, taken[i].held));
      out.Set(i, item);
    }
    return out;
  }

  Napi::Value admit(const Napi::CallbackInfo& info) {
    bool lossless = false;
    const std::uint64_t container = info[0].As<Napi::BigInt>().Uint64Value(&lossless);
    const bool waited = guarded(info.Env(), [&] { return engine_->admit(container, info[1].As<Napi::Boolean>().Value()); });
    return Napi::Boolean::New(info.Env(), waited);
  }

  Napi::Value remove(const Napi::CallbackInfo& info) {
    const bool existed =
        guarded(info.Env(), [&] { return engine_->remove(info[0].As<Napi::Number>().Uint32Value()); });
    return Napi::Boolean::New(info.Env(), existed);
  }

  void retry(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { engine_->retry(info[0].As<Napi::Number>().Uint32Value()); });
  }

  Napi::Value path_notes(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto notes =
        guarded(env, [&] { return engine_->path_notes(info[0].As<Napi::Number>().Uint32Value()); });
    Napi::Array out = Napi::Array::New(env, notes.size());
    for (std::uint32_t i = 0; i < notes.size(); ++i) {
      Napi::Object item = Napi::Object::New(env);
      item.Set("subjectId", Napi::Number::New(env, notes[i].subject));
      item.Set("path", notes[i].path);
      item.Set("missing", notes[i].missing);
      item.Set("program", notes[i].program);
      item.Set("names", Napi::Number::New(env, notes[i].names));
      item.Set("fault", notes[i].fault);
      out.Set(i, item);
    }
    return out;
  }

  Napi::Value take_ended(const Napi::CallbackInfo& info) {
    return array_of(info.Env(), guarded(info.Env(), [&] { return engine_->take_ended(); }));
  }

  Napi::Value drain(const Napi::CallbackInfo& info) {
    auto into = info[0].As<Napi::Uint8Array>();
    const std::size_t got =
        guarded(info.Env(), [&] { return engine_->drain(std::span<std::uint8_t>(into.Data(), into.ByteLength())); });
    return Napi::Number::New(info.Env(), static_cast<double>(got));
  }

  Napi::Object vitals_of(Napi::Env env) {
    const EngineVitals all = guarded(env, [&] { return engine_->vitals(); });
    Napi::Object out = Napi::Object::New(env);
    out.Set("programs", array_of(env, all.programs));
    out.Set("ring", object_of(env, std::map<std::string, double>{{"bytes", static_cast<double>(all.ring.bytes)},
                                                                 {"used", static_cast<double>(all.ring.used)},
                                                                 {"written", static_cast<double>(all.ring.written)}}));
    out.Set("heartbeatMs", object_of(env, all.heartbeat_ms));
    return out;
  }

  Napi::Value vitals(const Napi::CallbackInfo& info) { return vitals_of(info.Env()); }

  void add_troubles(Napi::Env env, Napi::Object& to) {
    const EngineTroubles all = guarded(env, [&] { return engine_->troubles(); });
    to.Set("losses", object_of(env, all.losses));
    to.Set("exposure", object_of(env, all.exposure));
    to.Set("full", object_of(env, all.full));
    Napi::Array refused = Napi::Array::New(env, all.refused.size());
    for (std::uint32_t i = 0; i < all.refused.size(); ++i) {
      Napi::Object item = Napi::Object::New(env);
      item.Set("container", all.refused[i].container);
      item.Set("resource", all.refused[i].resource);
      item.Set("count", Napi::Number::New(env, static_cast<double>(all.refused[i].count)));
      refused.Set(i, item);
    }
    to.Set("refused", refused);
  }

  Napi::Value troubles(const Napi::CallbackInfo& info) {
    Napi::Object out = Napi::Object::New(info.Env());
    add_troubles(info.Env(), out);
    return out;
  }

  Napi::Value stats(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const EngineStats all = guarded(env, [&] { return engine_->stats(); });
    Napi::Object out = vitals_of(env);
    add_troubles(env, out);
    Napi::Array decisions = Napi::Array::New(env);
    Napi::Array blocked = Napi::Array::New(env);
    engine_->each_counts([&](std::uint32_t id, const SubjectCounts& counts) {
      add_decisions(env, decisions, id, counts);
      add_blocked(env, blocked, id, counts);
    });
    out.Set("decisions", decisions);
    out.Set("blocked", blocked);
    out.Set("asked", object_of(env, all.asked));
    out.Set("unwatched", object_of(env, all.unwatched));
    out.Set("marks", object_of(env, all.marks));
    out.Set("scansPending", Napi::Number::New(env, static_cast<double>(all.scans_pending)));
    out.Set("containers", Napi::Number::New(env, static_cast<double>(all.containers)));
    out.Set("processes", Napi::Number::New(env, static_cast<double>(all.processes)));
    Napi::Array maps = Napi::Array::New(env);
    for (const auto& map : all.maps) {
      Napi::Object item = object_of(env, std::map<std::string, std::uint64_t>{
                                             {"bytes", map.bytes}, {"maxEntries", map.max_entries}, {"full", map.full}});
      item.Set("name", Napi::String::New(env, map.name));
      maps.Set(maps.Length(), item);
    }
    out.Set("maps", maps);
    out.Set("bpfRecords", Napi::Number::New(env, static_cast<double>(all.bpf_records)));
    out.Set("bpfRingPeak", Napi::Number::New(env, static_cast<double>(all.bpf_ring_peak)));
    out.Set("holdTier", all.hold_tier);
    out.Set("kernelDecides", all.kernel_decides);
    out.Set("kernelAlone", all.kernel_alone);
    out.Set("kept", all.kept);
    out.Set("away", object_of(env, all.away));
    out.Set("awaySeconds", Napi::Number::New(env, all.away_seconds));
    out.Set("holds", object_of(env, all.holds));
    out.Set("arrivals", arrivals_of(env, all.arrivals));
    out.Set("urgent", object_of(env, all.urgent));
    return out;
  }

  static void add_decisions(Napi::Env env, Napi::Array& to, std::uint32_t id, const SubjectCounts& counts) {
    for (std::size_t kind = 0; kind < counts.decisions.size(); ++kind) {
      for (int response = 0; response < static_cast<int>(kResponses); ++response) {
        for (int answered = 0; answered < 2; ++answered) {
          const std::uint64_t count = counts.decisions[kind][response][answered].get();
          if (count == 0) continue;
          Napi::Object item = Napi::Object::New(env);
          item.Set("subjectId", Napi::Number::New(env, id));
          item.Set("kind", Napi::Number::New(env, static_cast<double>(kind)));
          item.Set("response", Napi::Number::New(env, response));
          item.Set("answered", Napi::Boolean::New(env, answered == 1));
          item.Set("count", Napi::Number::New(env, static_cast<double>(count)));
          to.Set(to.Length(), item);
        }
      }
    }
  }

  static void add_blocked(Napi::Env env, Napi::Array& to, std::uint32_t id, const SubjectCounts& counts) {
    for (int response = 0; response < static_cast<int>(kResponses); ++response) {
      const auto& counters = counts.blocked[response];
      if (counts.blocked_ns[response].get() == 0) continue;  // nobody has waited yet
      Napi::Array buckets = Napi::Array::New(env, counters.size());
      for (std::uint32_t i = 0; i < counters.size(); ++i)
        buckets.Set(i, Napi::Number::New(env, static_cast<double>(counters[i].get())));
      Napi::Object item = Napi::Object::New(env);
      item.Set("subjectId", Napi::Number::New(env, id));
      item.Set("response", Napi::Number::New(env, response));
      item.Set("buckets", buckets);
      item.Set("sumSeconds", Napi::Number::New(env, static_cast<double>(counts.blocked_ns[response].get()) / 1e9));
      to.Set(to.Length(), item);
    }
  }

  std::unique_ptr<Wake> wake_;
  std::unique_ptr<Engine> engine_;
};

// ---- the module -----------------------------------------------------------------

Napi::Object trial_of(Napi::Env env, const Trial& trial, bool needed) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("works", trial.works());
  out.Set("needed", needed);
  out.Set("reason", trial.works() ? "" : std::strerror(trial.error));
  return out;
}

Napi::Value probe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Probe& found = probe_kernel();
  Napi::Object out = Napi::Object::New(env);
  out.Set("kernel", found.kernel);
  out.Set("architecture", found.architecture);
  out.Set("btf", found.btf);
  out.Set("overlayBtf", found.overlay_btf);
  Napi::Object features = Napi::Object::New(env);
  for (const auto& [name, trial, needed] : kFeatures)
    features.Set(name, trial_of(env, found.*trial, needed != nullptr));
  out.Set("features", features);
  Napi::Array capabilities = Napi::Array::New(env);
  for (const Capability& capability : used_capabilities()) {
    Napi::Object item = Napi::Object::New(env);
    item.Set("name", capability.name);
    item.Set("for", capability.what);
    item.Set("needed", capability.needed);
    item.Set("held", has_capability(capability.number));
    capabilities.Set(capabilities.Length(), item);
  }
  out.Set("capabilities", capabilities);
  out.Set("missing", array_of(env, found.missing));
  return out;
}

Napi::Value kept(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto milliseconds = [&](std::uint64_t ns) { return Napi::Number::New(env, static_cast<double>(ns / 1'000'000)); };
  Napi::Array out = Napi::Array::New(env);
  for (const KeptState& state : look_at_kept(Pins::kBase)) {
    Napi::Object item = Napi::Object::New(env);
    item.Set("directory", state.directory);
    item.Set("layout", Napi::Number::New(env, state.layout));
    if (state.presence) {
      const janus_presence& presence = *state.presence;
      Napi::Object daemon = Napi::Object::New(env);
      daemon.Set("pid", Napi::Number::New(env, presence.pid));
      daemon.Set("version", std::string(presence.version, strnlen(presence.version, sizeof(presence.version))));
      daemon.Set("generation", Napi::Number::New(env, static_cast<double>(presence.generation)));
      daemon.Set("there", presence.away == 0);
      daemon.Set("beatMs", milliseconds(state.seen_ns - presence.beat_ns));
      daemon.Set("awayMs", milliseconds(presence.away == 0 ? 0 : state.seen_ns - presence.left_ns));
      daemon.Set("denied", Napi::Number::New(env, static_cast<double>(state.counts[JANUS_AWAY_DENIED])));
      daemon.Set("unjudged", Napi::Number::New(env, static_cast<double>(state.counts[JANUS_AWAY_UNJUDGED])));
      daemon.Set("refused", Napi::Number::New(env, static_cast<double>(state.counts[JANUS_AWAY_REFUSED])));
      item.Set("daemon", daemon);
    }
    out.Set(out.Length(), item);
  }
  return out;
}

void end_kept(const Napi::CallbackInfo& info) { Kept(info[0].As<Napi::String>().Utf8Value()).end(); }

Napi::Value layout(const Napi::CallbackInfo& info) {
  return object_of(info.Env(), std::map<std::string, std::size_t>{
                                   {"sizeof", sizeof(FileEvent)},
                                   {"size", offsetof(FileEvent, size)},
                                   {"path_len", offsetof(FileEvent, path_len)},
                                   {"exe_len", offsetof(FileEvent, exe_len)},
                                   {"seq", offsetof(FileEvent, seq)},
                                   {"time_ns", offsetof(FileEvent, time_ns)},
                                   {"cgroup_id", offsetof(FileEvent, cgroup_id)},
                                   {"subject_id", offsetof(FileEvent, subject_id)},
                                   {"blocked_ns", offsetof(FileEvent, blocked_ns)},
                                   {"pid", offsetof(FileEvent, pid)},
                                   {"ppid", offsetof(FileEvent, ppid)},
                                   {"uid", offsetof(FileEvent, uid)},
                                   {"kind", offsetof(FileEvent, kind)},
                                   {"response", offsetof(FileEvent, response)},
                                   {"flags", offsetof(FileEvent, flags)},
                                   {"comm", offsetof(FileEvent, comm)},
                                   {"start_ns", offsetof(FileEvent, start_ns)},
                                   {"ancestry_len", offsetof(FileEvent, ancestry_len)},
                                   {"deniers", offsetof(FileEvent, deniers)},
                                   {"asked_len", offsetof(FileEvent, asked_len)},
                                   {"argv0_len", offsetof(FileEvent, argv0_len)},
                                   {"other_len", offsetof(FileEvent, other_len)},
                               });
}

// Takes an exclusive flock(2) of a descriptor, without waiting for one. The kernel lets go of it when the file
// is closed or the process ends. False: somebody else has it.
Napi::Value try_lock(const Napi::CallbackInfo& info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  return guarded(info.Env(), [&]() -> Napi::Value {
    const bool locked = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno != EWOULDBLOCK) throw Error::system(errno, "flock", std::to_string(fd));
    return Napi::Boolean::New(info.Env(), locked);
  });
}

std::string_view bytes_of(const Napi::Value& value) {
  const auto bytes = value.As<Napi::Uint8Array>();
  return {reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength()};
}

Napi::Value glob_covers(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), janus::glob_covers(bytes_of(info[0]), bytes_of(info[1])));
}

Napi::Value peer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Peer found = guarded(env, [&] { return peer_of(info[0].As<Napi::Number>().Int32Value()); });
  Napi::Object out = Napi::Object::New(env);
  out.Set("pid", found.pid);
  out.Set("uid", found.uid);
  return out;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  // Node allocates in bursts; give what is free back to the node.
  mallopt(M_MMAP_THRESHOLD, 64 * 1024);
  mallopt(M_TRIM_THRESHOLD, 256 * 1024);
  mallopt(M_ARENA_MAX, 2);
  exports.Set("probe", Napi::Function::New(env, probe));
  exports.Set("kept", Napi::Function::New(env, kept));
  exports.Set("endKept", Napi::Function::New(env, end_kept));
  exports.Set("layout", Napi::Function::New(env, layout));
  exports.Set("tryLock", Napi::Function::New(env, try_lock));
  exports.Set("globCovers", Napi::Function::New(env, glob_covers));
  exports.Set("peer", Napi::Function::New(env, peer));
  Napi::Array bounds = Napi::Array::New(env, kBlockedBoundsNs.size());
  for (std::uint32_t i = 0; i < kBlockedBoundsNs.size(); ++i)
    bounds.Set(i, Napi::Number::New(env, static_cast<double>(kBlockedBoundsNs[i]) / 1e9));
  exports.Set("blockedBoundsSeconds", bounds);
  exports.Set("Engine", JsEngine::define(env));
  return exports;
}

NODE_API_MODULE(janusd, init)

}  // namespace
}  // namespace janus

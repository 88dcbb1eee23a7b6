// See training_display.hpp.
#include "tools/commands/training_display.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "host/base/format.hpp"
#include "host/device/arena.hpp"
#include "host/planning/precision.hpp"

namespace perilune {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kNextLine = std::chrono::seconds(5);

std::string repeated(std::string_view text, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

// `done` in 0 .. 1, as `cells` cells.
std::string bar(const Terminal& out, double done, std::size_t cells) {
  const auto full = static_cast<std::size_t>(std::clamp(done, 0.0, 1.0) * static_cast<double>(cells) + 0.5);
  return out.styled(Style::kAccent, repeated(out.choose("━", "="), full)) +
         out.styled(Style::kDim, repeated(out.choose("━", "-"), cells - full));
}

// Columns that progress_text takes at most; its fields have constant widths, so that the line stands still while its
// numbers change.
constexpr std::size_t kTextWidth = 63;

std::string progress_text(const TrainingProgress& progress) {
  const std::string episodic_return =
      std::isnan(progress.episodic_return) ? "-" : formatted("{:.1f}", progress.episodic_return);
  const std::string kl = std::isnan(progress.approx_kl) ? "-" : formatted("{:.4f}", progress.approx_kl);
  return formatted("{:>6} steps  {:>6}/s  return {:<5}  KL {:<6}  {} left", scaled(static_cast<double>(progress.step)),
                   scaled(progress.steps_per_second), episodic_return, kl, duration_text(progress.seconds_left));
}

}  // namespace

void TrainingDisplay::show_plan(const Config& config, const TrainingPlan& plan, const std::string& reason,
                                std::size_t free_memory, bool memory_table) {
  std::string text = formatted("{}, {}, seed {}\n", out_.styled(Style::kBold, config.env_id), config.name, config.seed);
  text += labelled(out_, "device", formatted("{}, {} - {}", plan.device, precision_name(plan.precision), reason));
  text += labelled(out_, "networks", plan.networks);
  text +=
      labelled(out_, "memory", formatted("{} of {} free", format_bytes(plan.device_bytes), format_bytes(free_memory)));
  if (memory_table) text += plan.memory_table;
  text += labelled(out_, "run", plan.run_directory.string());
  if (plan.first_step > 0) {
    text +=
        labelled(out_, "resumed", formatted("at step {} of {}", grouped(plan.first_step), grouped(plan.total_steps)));
  }
  for (const std::string& note : plan.notes) text += labelled(out_, "note", note);
  out_.print(text + "\n");
}

void TrainingDisplay::show_progress(const TrainingProgress& progress) {
  last_ = progress;
  is_stale_ = true;
  const Clock::time_point now = Clock::now();
  const bool is_first = !has_progress_;
  has_progress_ = true;
  if (out_.is_interactive() ? !is_first && now - drawn_at_ < kRedraw : now - drawn_at_ < kNextLine) return;
  drawn_at_ = now;
  draw();
}

void TrainingDisplay::draw() {
  is_stale_ = false;
  const std::string text = progress_text(last_);
  if (!out_.is_interactive()) return out_.print("  " + text + "\n");
  constexpr std::size_t kMinCells = 5;
  constexpr std::size_t kMaxCells = 24;
  constexpr std::size_t kGaps = 5;  // spaces around the bar, and the last column
  const auto columns = static_cast<std::size_t>(out_.columns());
  std::string line = "\r  ";
  if (columns >= kTextWidth + kGaps + kMinCells) {
    const double done = static_cast<double>(last_.step) / static_cast<double>(last_.total_steps);
    line += bar(out_, done, std::min(kMaxCells, columns - kTextWidth - kGaps)) + "  ";
  }
  // A line that wraps cannot be redrawn.
  out_.print(line + text.substr(0, columns > 3 ? columns - 3 : 0) + "\x1b[K");
  is_drawn_ = true;
}

void TrainingDisplay::finish_progress() {
  if (!out_.is_interactive() || !has_progress_) return;
  if (is_stale_) draw();
  if (is_drawn_) out_.print("\n\n");
  is_drawn_ = false;
}

void TrainingDisplay::show_result(const TrainingResult& result, double seconds, const std::string& program) {
  const std::string run = shell_quoted(result.run_directory.string());
  const std::string verdict =
      result.solved ? out_.styled(Style::kGood, "Solved") : out_.styled(Style::kWarning, "Not solved");
  std::string text = formatted("{} (a mean return of {:.0f} or more, over {} new episodes)\n", verdict,
                               result.solved_threshold, result.evaluation.episodes);
  text += labelled(out_, "evaluation", evaluation_text(out_, result.evaluation));
  const bool is_last_best = !result.best || result.best->step == result.steps;
  if (!is_last_best) {
    text +=
        labelled(out_, "best",
                 formatted("{:.1f} at step {}, in best.safetensors", result.best->mean, grouped(result.best->step)));
  }
  text += labelled(out_, "steps", grouped(result.steps));
  text += labelled(out_, "seconds", formatted("{:.3f} from the start of the process", seconds));
  text += labelled(out_, "steps/s", scaled(result.steps_per_second));
  text += labelled(out_, "run", result.run_directory.string());

  text += formatted("\n{}\n", out_.styled(Style::kDim, "Next"));
  const auto suggest = [&](const std::string& arguments, std::string_view what) {
    text += formatted("  {:<12}{} {}\n", what, shell_quoted(program), arguments);
  };
  suggest("eval " + run, "play again");
  if (!is_last_best) suggest("eval " + run + " --best", "the best");
  if (result.steps < static_cast<std::uint64_t>(result.config.total_timesteps)) {
    suggest("train --resume " + run + " --set target_return=none", "train on");
  }
  suggest("list keys", "settings");
  out_.print(text);
}

}  // namespace perilune

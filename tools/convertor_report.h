#pragma once

#include <filesystem>
#include <ostream>

#include "convertor/tag_converter.h"

namespace obd::tools {

/// One JSON object a line: each layer, each image, and last the summary.
void print_json_result(std::ostream& out, const convertor::ConvertResult& result,
                       const std::string& repository, const std::string& tag, bool uploaded);
/// What a person wants to know.
void print_text_result(std::ostream& out, const convertor::ConvertResult& result,
                       const std::string& repository, const std::string& tag, bool uploaded);
/// Times, CPU by stage, memory and sizes of the run as one JSON document.
void write_metrics(const std::filesystem::path& path, const convertor::ConvertResult& result,
                   const convertor::ProgressBoard& progress, const blockfs::WorkerPool& pool,
                   double wall_seconds);

}  // namespace obd::tools

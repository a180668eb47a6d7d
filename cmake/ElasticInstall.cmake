# SPDX-License-Identifier: Apache-2.0
# Headers, CMake package and pkg-config file; all of them relocatable and the same on every architecture.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/elastic)
target_include_directories(elastic INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(DIRECTORY include/elastic DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh")
install(TARGETS elastic EXPORT elastic-targets)
install(EXPORT elastic-targets NAMESPACE elastic:: DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/elastic-config-version.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES cmake/elastic-config.cmake cmake/elastic-components.cmake
              ${PROJECT_BINARY_DIR}/elastic-config-version.cmake DESTINATION ${package_dir})

set(pc_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
file(RELATIVE_PATH elastic_pc_to_prefix /prefix/${pc_dir} /prefix)
string(REGEX REPLACE "/$" "" elastic_pc_to_prefix "${elastic_pc_to_prefix}")
configure_file(cmake/elastic.pc.in elastic.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/elastic.pc DESTINATION ${pc_dir})

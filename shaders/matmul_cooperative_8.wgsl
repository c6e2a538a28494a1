// uses: activation, product, result, operands, tiles, cooperative
// enables: f16, wgpu_cooperative_matrix
// Matrix product by cooperative matrices of 8x8, as Apple's GPUs and lavapipe have them.
const SIDE = 8u;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;

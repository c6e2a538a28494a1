// uses: activation, product, result, operands, tiles, cooperative
// enables: f16, wgpu_cooperative_matrix
// Matrix product by cooperative matrices of 16x16, as NVIDIA's and AMD's GPUs have them.
const SIDE = 16u;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
